// From every figure of a run (lines `name value`) to a table of medians and a chart: node table.mjs RAW OUT
import fs from 'node:fs';
import os from 'node:os';
import { execFileSync } from 'node:child_process';

const [raw, out] = process.argv.slice(2);
const figures = new Map();
for (const line of fs.readFileSync(raw, 'utf8').trim().split('\n')) {
  const [name, value] = line.split(' ');
  figures.set(name, [...(figures.get(name) ?? []), Number(value)]);
}

const median = (name) => {
  const values = [...(figures.get(name) ?? [])].sort((a, b) => a - b);
  return values.length === 0 ? null : values[Math.floor(values.length / 2)];
};
const shown = (value, digits = 0) => (value === null ? '–' : value.toLocaleString('en', { maximumFractionDigits: digits, minimumFractionDigits: digits }));
const ratio = (a, b) => (median(a) === null || median(b) === null ? null : median(a) / median(b));
const version = (command, ...args) => execFileSync(command, args).toString().trim().split('\n')[0];

const ways = [
  ['send.0ms.h1', 'at once, HTTP/1.1, 64 in flight'],
  ['send.0ms.h2', 'at once, HTTP/2, 64 in flight'],
  ['send.100ms.500.h2', 'after 100 ms, HTTP/2, 500 in flight'],
  ['send.100ms.64.h2', 'after 100 ms, HTTP/2, 64 in flight'],
].filter(([name]) => figures.has(`${name}.sends_per_second`));

const single = [
  ['`twilio_verify()` / plain GET, upstream at once', 'ask.0ms.ask_ratio', 2, '≤ 1.5'],
  ['`twilio_verify()`, p50, ms', 'ask.0ms.ask_p50_ms', 2, ''],
  ['plain GET, p50, ms', 'ask.0ms.get_p50_ms', 2, ''],
  ['`twilio_verify()` / plain GET, upstream after 100 ms', 'ask.100ms.ask_ratio', 3, '≤ 1.05'],
  ['answers per second, 32 sessions, upstream after 100 ms', 'ask.100ms.asks_per_second', 0, '≥ 250'],
  ['growth of the worker over the asks, kB', 'memory.worker_growth_kb', 0, '< 5,000'],
  ['growth in descriptors', 'memory.worker_descriptors_growth', 0, '0'],
  ['one message, commit to arrival, idle worker, p50, ms', 'latency.idle_p50_ms', 2, '≤ 2'],
  ['the same after 3 s of idling (secrets wiped), p50, ms', 'latency.long_idle_p50_ms', 2, ''],
  ['five messages a second, p95, ms', 'latency.five_a_second_p95_ms', 2, '≤ 5'],
  ['INSERT … SELECT, µs a row', 'send.0ms.h2.enqueue_us', 1, '≤ 50'],
  ['`twilio_send_sms()` in a transaction of 1,000, µs', 'enqueue.call_us', 0, '≤ 200'],
  ['B behind 50,000 of A: commit to result, ms (upstream after 50 ms)', 'fair.fair_wait_ms', 0, '≤ 2,000'],
].filter(([, name]) => figures.has(name));

const rounds = Math.max(...[...figures.values()].map((values) => values.length));
const load = os.loadavg()[0].toFixed(1);
const lines = [
  '# Measured',
  '',
  `${new Date().toISOString().slice(0, 10)}, ${os.cpus().length} × ${os.cpus()[0].model.trim()}, Linux ${os.release()}, ${version('pg_config', '--version')}, ${version('curl', '--version').split(' ').slice(0, 2).join(' ')}, ${version('node', '--version')}; fsync on, TLS.`,
  `Medians of ${rounds} rounds at most; load of the machine at the end: ${load}. Absolute figures move with the machine, ratios much less.`,
  '',
];
if (ways.length > 0) {
  lines.push('| upstream answers | messages/s | CPU µs: worker + backend | ceiling, same SQL: messages/s | CPU µs | ours / ceiling | ceiling, bare queue: messages/s | CPU µs |', '|---|---|---|---|---|---|---|---|');
  for (const [name, title] of ways)
    lines.push(
      `| ${title} | ${shown(median(`${name}.sends_per_second`))} | ${shown(median(`${name}.worker_cpu_us`))} + ${shown(median(`${name}.enqueue_cpu_us`))} ` +
        `| ${shown(median(`${name}.same.ceiling_per_second`))} | ${shown(median(`${name}.same.ceiling_cpu_us`))} | ${shown(ratio(`${name}.sends_per_second`, `${name}.same.ceiling_per_second`), 2)} ` +
        `| ${shown(median(`${name}.bare.ceiling_per_second`))} | ${shown(median(`${name}.bare.ceiling_cpu_us`))} |`,
    );
  const upstream = Math.max(...ways.map(([name]) => median(`${name}.upstream_cpu_us`) ?? 0));
  lines.push('', `The upstream is not the bottleneck: nginx took at most ${shown(upstream)} µs of one core per message, and the bare ceiling goes faster through it than anything else here.`, '');
}
if (single.length > 0) {
  lines.push('| | measured | goal |', '|---|---|---|');
  for (const [title, name, digits, goal] of single) lines.push(`| ${title} | ${shown(median(name), digits)} | ${goal} |`);
  lines.push('');
}
fs.writeFileSync(`${out}.md`, lines.join('\n'));

// Bars of messages per second, ours beside both ceilings.
const bars = ways.flatMap(([name, title]) => [
  [title, median(`${name}.sends_per_second`), '#0b7285', 'pg_twilio'],
  ['', median(`${name}.same.ceiling_per_second`), '#868e96', 'ceiling, same SQL'],
  ['', median(`${name}.bare.ceiling_per_second`), '#ced4da', 'ceiling, bare queue'],
]);
if (bars.length > 0) {
  const most = Math.max(...bars.map((bar) => bar[1] ?? 0));
  const rows = bars.map(([title, value, colour, what], i) => {
    const y = 30 + i * 20 + Math.floor(i / 3) * 16;
    const width = Math.round(((value ?? 0) / most) * 360);
    return `<text x="250" y="${y + 12}" text-anchor="end">${title}</text><rect x="260" y="${y}" width="${width}" height="16" fill="${colour}"/><text x="${266 + width}" y="${y + 12}">${shown(value)} ${what}</text>`;
  });
  const height = 40 + bars.length * 20 + Math.ceil(bars.length / 3) * 16;
  fs.writeFileSync(
    `${out}.svg`,
    `<svg xmlns="http://www.w3.org/2000/svg" width="800" height="${height}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/><text x="10" y="18" font-weight="bold">Messages per second, from commit to recorded result</text>${rows.join('')}</svg>\n`,
  );
}

// From every figure of a run to tables of medians and a chart: node table.mjs RAW OUT
import fs from 'node:fs';
import os from 'node:os';
import { execFileSync } from 'node:child_process';
import { chart } from './chart.mjs';
import { Figures, shown, ways } from './figures.mjs';

const [raw, out] = process.argv.slice(2);
const figures = new Figures(raw);
const { has, median, ratio, total } = figures;
const lines = [];

// A table with the rows that there are.
function table(heads, rows, note) {
  if (rows.length === 0) return;
  const row = (cells) => `| ${cells.join(' | ')} |`;
  lines.push(row(heads), row(heads.map(() => '---')), ...rows.map(row), '', ...(note ? [note, ''] : []));
}

// ---- machine and versions -----------------------------------------------------

const version = (command, ...args) => execFileSync(command, args).toString().trim().split('\n')[0];
const packages = JSON.parse(fs.readFileSync(new URL('peers/package.json', import.meta.url))).dependencies;
lines.push(
  '# Measured',
  '',
  `${new Date().toISOString().slice(0, 10)}, ${os.cpus().length} × ${os.cpus()[0].model.trim()}, Linux ${os.release()}, ${version('pg_config', '--version')}, ` +
    `${version('curl', '--version').split(' ').slice(0, 2).join(' ')}, node ${process.version}; fsync on, TLS.`,
  `Peers: ${Object.entries(packages).map(([name, number]) => `${name} ${number}`).join(', ')}.`,
  `Medians of ${figures.rounds()} rounds at most; load of the machine at the end: ${os.loadavg()[0].toFixed(1)}. Absolute figures move with the machine, ratios much less.`,
  '',
);

// ---- sends ---------------------------------------------------------------------

const rate = (name) => `${name}.${has(`${name}.ceiling_per_second`) ? 'ceiling' : 'sends'}_per_second`;
const cpu = (name) => median(`${name}.worker_cpu_us`) ?? median(`${name}.ceiling_cpu_us`);
const sends = ways
  .filter(({ ours }) => has(rate(ours)))
  .map(({ title, ours, others }) => ({ title, ours, senders: [['pg_twilio', ours], ...others].filter(([, name]) => has(rate(name))) }));

const upstreamShare = ({ ours }) => (median(rate(ours)) * (median(`${ours}.upstream_cpu_us`) ?? 0)) / 1e4;

table(
  ['upstream answers', '', 'messages/s', 'CPU µs a message', 'enqueue, µs a row (CPU)', 'pg_twilio / it', 'goal'],
  sends.flatMap(({ title, ours, senders }) =>
    senders.map(([who, name, goal], i) => [
      i === 0 ? title : '',
      who,
      shown(median(rate(name))),
      shown(cpu(name)),
      has(`${name}.enqueue_us`) ? `${shown(median(`${name}.enqueue_us`), 1)} (${shown(median(`${name}.enqueue_cpu_us`), 1)})` : '–',
      i === 0 ? '' : shown(ratio(rate(ours), rate(name)), 2),
      goal ?? '',
    ]),
  ),
  `nginx, the upstream, needed at most ${shown(Math.max(...sends.map(upstreamShare)))} % of one core while pg_twilio sent.`,
);

// ---- single figures --------------------------------------------------------------

const single = [
  ['`twilio_verify()` / plain GET, upstream at once', 'ask.0ms.ask_ratio', 2, '≤ 1.5'],
  ['`twilio_verify()`, p50, ms', 'ask.0ms.ask_p50_ms', 2, ''],
  ['plain GET, p50, ms', 'ask.0ms.get_p50_ms', 2, ''],
  ['one row of a bare table updated, p50, ms', 'ask.0ms.write_p50_ms', 2, ''],
  ['`twilio_verify()` / both together', 'ask.0ms.least_ratio', 2, ''],
  ['`twilio_verify()` / plain GET, upstream after 100 ms', 'ask.100ms.ask_ratio', 3, '≤ 1.05'],
  ['answers per second, 32 sessions, upstream after 100 ms', 'ask.100ms.asks_per_second', 0, '≥ 250'],
  ['growth of the worker over the asks, kB', 'memory.worker_growth_kb', 0, '< 5,000'],
  ['growth in descriptors', 'memory.worker_descriptors_growth', 0, '0'],
  ['one message, commit to arrival, idle worker, p50, ms', 'latency.idle_p50_ms', 2, '≤ 2'],
  ['the disk alone, 8 kB written and synced, p50, ms', 'latency.disk_p50_ms', 2, ''],
  ['the same after 3 s of idling (secrets wiped), p50, ms', 'latency.long_idle_p50_ms', 2, ''],
  ['five messages a second, p95, ms', 'latency.five_a_second_p95_ms', 2, '≤ 5'],
  ['right after the sends above: idle worker, p50, ms', 'latency.after_burst.idle_p50_ms', 2, ''],
  ['right after the sends above: five a second, p95, ms', 'latency.after_burst.five_a_second_p95_ms', 2, ''],
  ['INSERT … SELECT, µs a row', 'send.0ms.h2.enqueue_us', 1, '≤ 50'],
  ['`twilio_send_sms()` in a transaction of 1,000, µs', 'enqueue.call_us', 0, '≤ 200'],
  ['the same called by a client one by one, way there and back included, µs', 'enqueue.call_from_client_us', 0, ''],
  ['B behind 50,000 of A: commit to result, ms (upstream after 50 ms)', 'fair.fair_wait_ms', 0, '≤ 2,000'],
];
table(
  ['', 'measured', 'goal'],
  single.filter(([, name]) => has(name)).map(([title, name, digits, goal]) => [title, shown(median(name), digits), goal]),
);

// ---- webhooks ----------------------------------------------------------------------

const answers = (name) => [shown(median(`${name}.per_second`)), shown(median(`${name}.p50_ms`), 2), shown(median(`${name}.p99_ms`), 2)];
const compared = (title, ours, theirs, goal) => [title, ...answers(ours), ...answers(theirs), shown(ratio(`${ours}.per_second`, `${theirs}.per_second`), 2), goal];
const sides = (ours, theirs) => ['', `${ours}: per second`, 'p50, ms', 'p99, ms', `${theirs}: per second`, 'p50, ms', 'p99, ms', 'ratio', 'goal'];

table(
  sides('in SQL', 'Express'),
  [
    ['commits wait for the disk', 'webhook.durable', '≥ 1.5'],
    ['commits do not wait', 'webhook.lazy', ''],
  ]
    .filter(([, name]) => has(`${name}.sql.per_second`))
    .map(([title, name, goal]) => compared(title, `${name}.sql`, `${name}.express`, goal)),
);
table(
  sides('nginx + PostgREST + pg_twilio', 'PostgREST alone, doing nothing'),
  [
    ['settings', 'settings', '≥ 0.8'],
    ['callback', 'callback', '≥ 0.7'],
    ['callback: nginx, PostgREST, a function that does nothing', 'nothing', ''],
    ['callback: nginx, PostgREST, two rows written to bare tables', 'writes', ''],
    ['inbound', 'inbound', ''],
  ]
    .filter(([, name]) => has(`rest.${name}.per_second`))
    .map(([title, name, goal]) => compared(title, `rest.${name}`, `rest.${name}.bare`, goal)),
);

// ---- after kill -9, and at rest -------------------------------------------------------

const killed = [
  ['pg_twilio, the worker', 'kill.worker', '0 lost, 0 doubled'],
  ['pg_twilio, the postmaster', 'kill.postmaster', '0 lost, 0 doubled'],
  ['graphile-worker', 'kill.graphile_worker', ''],
  ['pg-boss', 'kill.pg_boss', ''],
];
table(
  ['killed with -9 in the middle', 'messages, all rounds', 'lost', 'doubled', 'doubled, %', 'result never recorded', 'goal'],
  killed
    .filter(([, name]) => has(`${name}.messages`))
    .map(([title, name, goal]) => [
      title,
      ...['messages', 'lost', 'doubled'].map((figure) => shown(total(`${name}.${figure}`))),
      shown((total(`${name}.doubled`) / total(`${name}.messages`)) * 100, 1),
      shown(total(`${name}.unrecorded`)),
      goal,
    ]),
);

const idle = [
  ['pg_twilio (worker and launcher)', 'idle.postgres', '< 0.2 wake-ups'],
  ['graphile-worker', 'idle.graphile_worker', ''],
  ['pg-boss', 'idle.pg_boss', ''],
];
table(
  ['idle', 'wake-ups per second', 'transactions per second', 'goal'],
  idle
    .filter(([, name]) => has(`${name}.wakeups_per_second`))
    .map(([title, name, goal]) => [title, shown(median(`${name}.wakeups_per_second`), 2), shown(median(`${name}.transactions_per_second`), 2), goal]),
);

fs.writeFileSync(`${out}.md`, lines.join('\n'));
if (sends.length > 0) {
  const groups = sends.map(({ title, senders }) => ({ title, bars: senders.map(([who, name]) => [who, median(rate(name))]) }));
  fs.writeFileSync(`${out}.svg`, chart(groups));
}

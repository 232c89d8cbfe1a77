// Webhooks as Twilio signs them, by its own SDK, and wrk that posts each of them once.
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { promisify } from 'node:util';

const { getExpectedTwilioSignature } = createRequire(new URL('../test/rest/', import.meta.url))('twilio/lib/webhooks/webhooks.js');
export const run = promisify(execFile);
const millis = (text) => Number.parseFloat(text) * (text.endsWith('us') ? 0.001 : text.endsWith('ms') ? 1 : 1000);

// The SID of the nth message.
export const sidOf = (n) => `SM${String(n).padStart(32, '0')}`;

// Returns {body, signature} of a webhook with these parameters to an account's URL.
export function signed(account, url, parameters) {
  const all = { ApiVersion: '2010-04-01', AccountSid: account.sid, ...parameters };
  return { body: String(new URLSearchParams(all)), signature: getExpectedTwilioSignature(account.token, url, all) };
}

// The nth message of an account was delivered.
export const delivered = (account, url, n) =>
  signed(account, url, {
    MessageSid: sidOf(n),
    SmsSid: sidOf(n),
    MessageStatus: 'delivered',
    SmsStatus: 'delivered',
    To: '+15558675310',
    From: account.number,
  });

// Writes a script for wrk that posts these webhooks, in each round another part; a thread takes every second.
export function writeScript(path, webhooks, rounds) {
  writeFileSync(`${path}.txt`, webhooks.map(({ body, signature }) => `${body} ${signature}\n`).join(''));
  writeFileSync(
    path,
    `local threads = 0
    function setup(thread) thread:set("offset", threads) threads = threads + 1 end
    requests = {}
    function init()
      for line in io.lines("${path}.txt") do requests[#requests + 1] = line end
      n = offset + math.floor(tonumber(os.getenv("ROUND")) * #requests / ${rounds})
    end
    function request()
      n = n + 2
      local body, signature = requests[n % #requests + 1]:match("^(%S+) (%S+)$")
      return wrk.format("POST", nil, { ["Content-Type"] = "application/x-www-form-urlencoded; charset=UTF-8", ["X-Twilio-Signature"] = signature }, body)
    end`,
  );
}

export async function wrk(url, script, { round, seconds, connections }) {
  const options = ['-t2', `-c${connections}`, `-d${seconds}s`, '--latency', '-s', script, url];
  const { stdout } = await run('wrk', options, { env: { ...process.env, ROUND: String(round) } });
  const refused = /Non-2xx or 3xx responses: (\d+)/.exec(stdout);
  if (refused) throw new Error(`${url}: ${refused[1]} requests were refused`);
  const percentile = (part) => millis(new RegExp(`${part}%\\s+([\\d.]+\\w+)`).exec(stdout)[1]);
  return { per_second: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)[1]), p50_ms: percentile(50), p99_ms: percentile(99) };
}

// Figures as bench/run keeps them.
export const report = (name, figures) => {
  for (const [figure, value] of Object.entries(figures)) console.log(`${name}.${figure} ${Number(value.toPrecision(6))}`);
};

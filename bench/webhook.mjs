// Status callbacks per second: in SQL, by 8 sessions of pgbench that call twilio_handle_webhook() as an app would, and by
// Express (bench/peers), to which wrk posts the same callbacks over 8 connections. Each has a table of as many messages;
// each callback changes one of them. Both with commits that wait for the disk and with commits that do not.
//
//   node webhook.mjs CALLBACKS ROUNDS SECONDS DIR      libpq's environment, ACCOUNT, TOKEN
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { delivered, report, run, writeScript, wrk } from './callbacks.mjs';

const [callbacks, rounds, seconds] = process.argv.slice(2, 5).map(Number);
const dir = process.argv[5];
const SESSIONS = 8;
const PORT = 18439;
const WEBHOOK_URL = 'https://crm.example.com/twilio/webhook';
const TENANT = '018f4a3e-0000-7000-8000-000000000001';
const account = { sid: process.env.ACCOUNT, token: process.env.TOKEN, number: '+15005550006' };
const psql = (database, ...commands) => run('psql', ['-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', database, ...commands.flatMap((command) => ['-c', command])]);

async function fill(webhooks) {
  const csv = join(dir, 'signed.csv');
  writeFileSync(csv, webhooks.map(({ body, signature }, n) => `${n},${body},${signature}\n`).join(''));
  await psql(
    'postgres',
    `CREATE TABLE signed (n int, body bytea, signature text)`,
    `\\copy signed FROM '${csv}' (FORMAT csv)`,
    `ALTER TABLE signed ADD PRIMARY KEY (n)`,
    `SET row_security = off`,
    `INSERT INTO twilio_messages (user_id, direction, from_number, to_number, body, status, sid, num_segments)
       SELECT '${TENANT}', 'outbound', '${account.number}', '+15558675310', 'Hello', 'sent', 'SM' || lpad(n::text, 32, '0'), 1
       FROM generate_series(0, ${callbacks - 1}) n`,
    'VACUUM ANALYZE',
  );
  await psql('postgres', 'CREATE DATABASE express');
  await run('psql', ['-Xq', '-d', 'express', '-f', new URL('peers/messages.sql', import.meta.url).pathname]);
  await psql(
    'express',
    `INSERT INTO messages (to_number, body, status, sid) SELECT '+15558675310', 'Hello', 'sent', 'SM' || lpad(n::text, 32, '0')
       FROM generate_series(0, ${callbacks - 1}) n`,
    'VACUUM ANALYZE',
  );
}

// A part of the callbacks, each once.
async function inSql(part, parts, env) {
  const each = Math.floor(callbacks / parts / SESSIONS);
  const script = join(dir, 'callback.sql');
  const log = join(dir, 'latency');
  writeFileSync(
    script,
    `\\set n :first + :client_id * :each + :i
     \\set i :i + 1
     SELECT twilio_handle_webhook('${WEBHOOK_URL}', body, signature) FROM signed WHERE n = :n;\n`,
  );
  const variables = { first: part * each * SESSIONS, each, i: 0 };
  const defined = Object.entries(variables).flatMap(([name, value]) => ['-D', `${name}=${value}`]);
  const { stdout } = await run('pgbench', ['-n', '-M', 'prepared', '-c', String(SESSIONS), '-j', '2', '-t', String(each),
    '-l', '--log-prefix', log, '-f', script, ...defined, 'postgres'], { env });
  const logs = readdirSync(dir).filter((name) => name.startsWith('latency.')).map((name) => join(dir, name));
  const micros = logs.flatMap((path) => readFileSync(path, 'utf8').trim().split('\n').map((line) => Number(line.split(' ')[2])));
  logs.forEach((path) => rmSync(path));
  micros.sort((a, b) => a - b);
  const percentile = (part) => micros[Math.floor(micros.length * part)] / 1000;
  return { per_second: Number(/^tps = ([\d.]+)/m.exec(stdout)[1]), p50_ms: percentile(0.5), p99_ms: percentile(0.99) };
}

async function startExpress(env) {
  const child = fork(new URL('peers/express.mjs', import.meta.url), [PORT, availableParallelism()], {
    env: { ...env, PGDATABASE: 'express', WEBHOOK_URL, NODE_ENV: 'production' },
  });
  for (let tries = 0; tries < 200; tries += 1) {
    if (await fetch(`http://127.0.0.1:${PORT}/`).then(() => true, () => false)) return child;
    await delay(50);
  }
  throw new Error('Express does not answer');
}

// As many callbacks as it takes in the time, once its code is compiled.
async function inExpress(script, env) {
  const server = await startExpress(env);
  const post = (span) => wrk(`http://127.0.0.1:${PORT}/`, script, { round: 0, seconds: span, connections: SESSIONS });
  try {
    await post(2);
    await psql('express', `UPDATE messages SET status = 'sent'`, 'VACUUM messages', 'CHECKPOINT');
    return await post(seconds);
  } finally {
    server.kill();
    await once(server, 'exit');
  }
}

const webhooks = [...Array(callbacks).keys()].map((n) => delivered(account, WEBHOOK_URL, n));
await fill(webhooks);
const script = join(dir, 'express.lua');
writeScript(script, webhooks, 1);
let part = 0;
for (let round = 0; round < rounds; round += 1) {
  for (const [durability, wait] of [['durable', 'on'], ['lazy', 'off']]) {
    const env = { ...process.env, PGOPTIONS: `-c synchronous_commit=${wait}` };
    report(`webhook.${durability}.sql`, await inSql(part, 2 * rounds, env));
    report(`webhook.${durability}.express`, await inExpress(script, env));
    part += 1;
  }
}

// `make serve`: what it prints works, and Ctrl-C leaves nothing behind.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { checkout, freePort, until } from './stack.mjs';

const run = promisify(execFile);

test('it prints pages, an account, a message to receive, an API and a database, and ends with Ctrl-C', async (t) => {
  const port = await freePort();
  const serve = spawn('node', [join(checkout, 'test/rest/serve.mjs')], { env: { ...process.env, PORT: String(port) } });
  t.after(() => serve.kill());
  let printed = '';
  for (const stream of [serve.stdout, serve.stderr]) stream.on('data', (part) => (printed += part));
  await until('it is ready', () => printed.includes('Ctrl-C stops'), 60);

  const url = `http://127.0.0.1:${port}`;
  assert.equal((await fetch(`${url}/twilio-settings`)).status, 200);
  const [, anna] = /Anna {2}\S+#token=(\S+)/.exec(printed);
  const [, sid] = /Account SID {2}(\S+)/.exec(printed);
  const [, token] = /Auth Token {3}(\S+)/.exec(printed);
  const headers = { authorization: `Bearer ${anna}`, 'content-type': 'application/json' };
  const body = JSON.stringify({ account_sid: sid, auth_token: token });
  assert.equal((await fetch(`${url}/api/twilio-settings/`, { method: 'POST', headers, body })).status, 201);
  const verified = await fetch(`${url}/api/twilio-settings/verify`, { method: 'POST', headers });
  assert.equal((await verified.json()).verified, true);
  assert.equal((await (await fetch(`${url}/api/auth/login`, { method: 'POST' })).json()).access_token, anna);

  const shell = (line) => run('bash', ['-c', line]).then(({ stdout }) => stdout);
  assert.equal(JSON.parse(await shell(/^ {2}(curl -d .*)$/m.exec(printed)[1])).status, 200);
  const received = await (await fetch(`${url}/api/twilio_messages?select=body`, { headers })).json();
  assert.deepEqual(received, [{ body: 'Hello!' }]);

  const [, dir] = /The logs are in (\S+)\./.exec(printed);
  serve.kill('SIGINT');
  await until('it ends', () => serve.exitCode !== null, 30);
  assert.deepEqual([serve.exitCode, existsSync(dir)], [0, false]);
});

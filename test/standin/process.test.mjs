// The stand-in as a process, and what its listener offers: protocols, certificate, refusal.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import http2 from 'node:http2';
import tls from 'node:tls';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ACCOUNT, TOKEN, openStandin, until } from './testing.mjs';

const MAIN = fileURLToPath(new URL('main.mjs', import.meta.url));

async function startProcess(t, ...options) {
  const dir = mkdtempSync(join(tmpdir(), 'standin-'));
  const child = spawn(process.execPath, [MAIN, '--dir', dir, ...options], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => { child.kill('SIGKILL'); rmSync(dir, { recursive: true }); });
  const [line] = await once(child.stdout, 'data');
  return { child, line: JSON.parse(line), file: JSON.parse(readFileSync(join(dir, 'standin.json'))) };
}

function handshake(standin, { ca = readFileSync(standin.ca), host = 'api.twilio.com', protocols = ['h2', 'http/1.1'] } = {}) {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ host: '127.0.0.1', port: standin.port, servername: host, ca, ALPNProtocols: protocols }, () => {
      resolve(socket.alpnProtocol);
      socket.destroy();
    });
    socket.on('error', reject);
  });
}

test('the process says where it is and ends on SIGTERM', async (t) => {
  const { child, line, file } = await startProcess(t);
  assert.deepEqual(line, file);
  assert.deepEqual(Object.keys(line), ['port', 'control', 'ca', 'pid']);
  assert.equal(line.pid, child.pid);
  assert.equal((await fetch(`http://127.0.0.1:${line.control}/stats`)).status, 200);
  assert.equal(await handshake(line), 'h2');
  child.kill('SIGTERM');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});

test('with --with-parent it ends when its parent is gone', async (t) => {
  const { child } = await startProcess(t, '--with-parent', '--http1', '--no-validate');
  child.stdin.end();
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});

test('ALPN decides between HTTP/2 and HTTP/1.1', async (t) => {
  const standin = await openStandin(t);
  assert.equal(await handshake(standin), 'h2');
  assert.equal(await handshake(standin, { protocols: ['http/1.1'] }), 'http/1.1');
  assert.equal(await handshake(await openStandin(t, { http1Only: true })), 'http/1.1');
});

const authorization = `Basic ${Buffer.from(`${ACCOUNT}:${TOKEN}`).toString('base64')}`;

function openSession(t, standin) {
  const session = http2.connect('https://api.twilio.com', {
    createConnection: () => tls.connect({ host: '127.0.0.1', port: standin.port, servername: 'api.twilio.com', ca: readFileSync(standin.ca), ALPNProtocols: ['h2'] }),
  });
  t.after(() => session.destroy());
  return session;
}

test('what has not arrived whole when its HTTP/2 connection breaks is no request', async (t) => {
  const standin = await openStandin(t);
  for (const breakOff of [(session) => session.destroy(), () => standin.control('POST /listener', { state: 'cut' })]) {
    const session = openSession(t, standin);
    session.on('error', () => {});
    const stream = session.request({ ':method': 'POST', ':path': `/2010-04-01/Accounts/${ACCOUNT}/Messages.json`, authorization }, { endStream: false });
    stream.on('error', () => {});
    await new Promise((resolve) => { stream.write('To=%2B12025550199&Body=unfinished', resolve); });
    await new Promise((resolve) => { session.ping(resolve); });
    await breakOff(session);
    await until(async () => (await standin.control('GET /stats')).connections_open === 0, 'the connection is gone');
  }
  assert.deepEqual(await standin.control('GET /ledger'), []);
});

test('many requests go over one HTTP/2 connection', async (t) => {
  const standin = await openStandin(t);
  const session = openSession(t, standin);
  const get = async () => {
    const stream = session.request({ ':path': `/2010-04-01/Accounts/${ACCOUNT}.json`, authorization });
    let text = '';
    stream.on('data', (part) => { text += part; });
    const [headers] = await once(stream, 'response');
    await once(stream, 'end');
    return [headers[':status'], JSON.parse(text).sid];
  };
  for (const answer of await Promise.all(Array.from({ length: 50 }, get))) assert.deepEqual(answer, [200, ACCOUNT]);
  const stats = await standin.control('GET /stats');
  assert.deepEqual([stats.requests, stats.connections_opened], [50, 1]);
  assert.deepEqual([...new Set((await standin.control('GET /ledger')).map((entry) => entry.http))], ['2']);
  await standin.control('POST /behave', { action: 'truncate', times: 1 });
  await assert.rejects(get(), { code: 'ERR_HTTP2_STREAM_ERROR' });
  await standin.control('POST /behave', { action: 'drop-before', only_stream: true, times: 1 });
  await assert.rejects(get(), { code: 'ERR_HTTP2_STREAM_ERROR' });
  assert.deepEqual(await get(), [200, ACCOUNT]);
  assert.equal((await standin.control('GET /stats')).connections_opened, 1);
});

test('the certificate holds for the hosts of edges and regions, and only with the test authority', async (t) => {
  const standin = await openStandin(t);
  for (const host of ['numbers.twilio.com', 'api.dublin.ie1.twilio.com', 'api.us1.twilio.com']) assert.equal(await handshake(standin, { host }), 'h2');
  await assert.rejects(handshake(standin, { host: 'api.twilio.example' }), { code: 'ERR_TLS_CERT_ALTNAME_INVALID' });
  await assert.rejects(handshake(standin, { ca: [] }), { code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' });
  await assert.rejects(handshake(await openStandin(t, { servedName: 'impostor.example' })), { code: 'ERR_TLS_CERT_ALTNAME_INVALID' });
});

test('a closed listener refuses connections until it opens again', async (t) => {
  const standin = await openStandin(t);
  assert.equal((await standin.control('POST /listener', { state: 'closed' })).listening, false);
  await assert.rejects(handshake(standin), { code: 'ECONNREFUSED' });
  assert.equal((await standin.control('POST /listener', { state: 'open' })).listening, true);
  assert.equal(await handshake(standin), 'h2');
});

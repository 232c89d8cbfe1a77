// What the stand-in's own tests share: a stand-in in this process, its control API, and the official SDK
// sending every request to it, with the host name and the certificate check as with the real Twilio.

import assert from 'node:assert/strict';
import https from 'node:https';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import twilio from 'twilio';
import { startStandin } from './standin.mjs';

export const ACCOUNT = 'AC00000000000000000000000000000001';
export const OTHER = 'AC00000000000000000000000000000002';
export const TOKEN = '12345678901234567890123456789012';
export const FROM = '+15551230001';
export const TO = '+15551239999';

// An agent for which every host is the stand-in; TLS still wants a certificate for the host that was asked for.
class StandinAgent extends https.Agent {
  constructor(port, ca) {
    super({ keepAlive: true, ca });
    this.standinPort = port;
  }

  createConnection(options, then) {
    return super.createConnection({ ...options, host: '127.0.0.1', port: this.standinPort, servername: options.servername ?? options.host }, then);
  }
}

// Starts a stand-in with one account that has one number; `t` stops it.
export async function openStandin(t, options = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'standin-'));
  const standin = await startStandin({ dir, ...options });
  const agent = new StandinAgent(standin.port, readFileSync(standin.ca));
  t.after(async () => {
    agent.destroy();
    await standin.stop();
    rmSync(dir, { recursive: true });
  });

  // Calls the control API: control('POST /accounts', body).
  async function control(route, body) {
    const [method, path] = route.split(' ');
    const response = await fetch(`http://127.0.0.1:${standin.control}${path}`, { method, body: body === undefined ? undefined : JSON.stringify(body) });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    return answer;
  }

  // Returns the SDK's client for an account, or for an API key of it.
  function client(username = ACCOUNT, password = TOKEN, accountSid = ACCOUNT) {
    const httpClient = new twilio.RequestClient({ timeout: 10_000 });
    httpClient.axios.defaults.httpsAgent = agent;
    return twilio(username, password, { accountSid, httpClient });
  }

  // Sends a bare request and returns {status, headers, text}.
  function request(path, { method = 'GET', body = '', headers = {}, auth = `${ACCOUNT}:${TOKEN}`, host = 'api.twilio.com' } = {}) {
    return new Promise((resolve, reject) => {
      const sent = https.request({ host, path, method, auth, agent, headers: { ...(body === '' ? {} : { 'content-type': 'application/x-www-form-urlencoded' }), ...headers } }, (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (part) => { text += part; });
        response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, text }));
        response.on('error', reject);
      });
      sent.on('error', reject);
      sent.end(body);
    });
  }

  await control('POST /accounts', { sid: ACCOUNT, token: TOKEN, numbers: [FROM] });
  return { ...standin, control, client, request };
}

// Waits until `condition` holds, at most five seconds.
export async function until(condition, what) {
  const deadline = Date.now() + 5000;
  for (;;) {
    const result = await condition();
    if (result) return result;
    if (Date.now() > deadline) assert.fail(`waited in vain: ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 10); });
  }
}

export async function assertConforming(standin) {
  const { mismatches } = await standin.control('GET /mismatches');
  assert.deepEqual(mismatches, []);
  assert.deepEqual((await standin.control('GET /stats')).faults, []);
}

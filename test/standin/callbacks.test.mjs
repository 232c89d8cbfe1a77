// Webhooks: signed so that the official SDK believes them, sent when and where they should be.

import assert from 'node:assert/strict';
import http from 'node:http';
import { test } from 'node:test';
import twilio from 'twilio';
import { ACCOUNT, FROM, TO, TOKEN, openStandin, until } from './testing.mjs';
import { decodePairs } from './parameters.mjs';

const URL_GIVEN = 'https://crm.example.com/twilio/webhook?m=0190';

// An application that takes webhooks and keeps them.
async function openApplication(t) {
  const taken = [];
  const server = http.createServer((request, response) => {
    let body = '';
    request.on('data', (part) => { body += part; });
    request.on('end', () => {
      taken.push({ target: request.url, method: request.method, host: request.headers.host, signature: request.headers['x-twilio-signature'], type: request.headers['content-type'], body });
      response.writeHead(200, { 'content-type': 'text/xml' });
      response.end('<Response/>');
    });
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  t.after(() => { server.closeAllConnections(); server.close(); });
  return { taken, address: `http://127.0.0.1:${server.address().port}` };
}

const believed = (callback, url = URL_GIVEN, token = TOKEN) => twilio.validateRequest(token, callback.signature ?? callback.headers['x-twilio-signature'], url,
  Object.fromEntries(decodePairs(callback.body)));
const statuses = (application) => application.taken.map(({ body }) => new URLSearchParams(body).get('MessageStatus'));

test('a message with a StatusCallback is followed by signed callbacks', async (t) => {
  const application = await openApplication(t);
  const standin = await openStandin(t, { callbackTo: application.address });
  const message = await standin.client().messages.create({ from: FROM, to: TO, body: 'x', statusCallback: URL_GIVEN });
  await until(() => application.taken.length === 2, 'two callbacks');
  assert.deepEqual(statuses(application), ['sent', 'delivered']);
  for (const callback of application.taken) {
    assert.deepEqual([callback.method, callback.target, callback.host], ['POST', '/twilio/webhook?m=0190', 'crm.example.com']);
    assert.equal(new URLSearchParams(callback.body).get('MessageSid'), message.sid);
    assert.ok(believed(callback));
    assert.ok(!believed(callback, `${URL_GIVEN}1`));
    assert.ok(!believed(callback, URL_GIVEN, 'f'.repeat(32)));
  }
  const { deliveries, waiting } = await standin.control('GET /callbacks');
  assert.deepEqual([waiting, deliveries.map(({ status, answer }) => [status, answer])], [0, [[200, '<Response/>'], [200, '<Response/>']]]);
});

test('a fate shows in the callbacks', async (t) => {
  const application = await openApplication(t);
  const standin = await openStandin(t, { callbackTo: application.address });
  await standin.control('POST /fates', { status: 'failed', error_code: 30007 });
  await standin.client().messages.create({ from: FROM, to: TO, body: 'x', statusCallback: URL_GIVEN });
  await until(() => application.taken.length === 1, 'the callback');
  const params = new URLSearchParams(application.taken[0].body);
  assert.deepEqual([params.get('MessageStatus'), params.get('ErrorCode')], ['failed', '30007']);
});

test('an account without automatic callbacks sends none', async (t) => {
  const application = await openApplication(t);
  const standin = await openStandin(t, { callbackTo: application.address });
  await standin.control(`PATCH /accounts/${ACCOUNT}`, { callbacks: 'manual' });
  const message = await standin.client().messages.create({ from: FROM, to: TO, body: 'x', statusCallback: URL_GIVEN });
  await until(async () => (await standin.client().messages(message.sid).fetch()).status === 'delivered', 'delivered');
  assert.equal((await standin.control('GET /callbacks')).waiting, 0);
  assert.equal(application.taken.length, 0);
  const sent = await standin.control('POST /callback', { account: ACCOUNT, message: message.sid, status: 'delivered', send: true });
  assert.equal(sent.status, 200);
  assert.ok(believed(application.taken[0]));
});

test('a connection that fails is tried once more and noted', async (t) => {
  const standin = await openStandin(t, { callbackTo: '127.0.0.1:1' });
  const sent = await standin.control('POST /callback', { account: ACCOUNT, url: URL_GIVEN, params: { A: 1 }, send: true });
  assert.deepEqual([sent.attempts, sent.status, sent.error], [2, 0, 'ECONNREFUSED']);
});

test('a callback can be built without being sent, in every form', async (t) => {
  const standin = await openStandin(t);
  const build = (order) => standin.control('POST /callback', { account: ACCOUNT, url: URL_GIVEN, ...order });
  const form = await build({ params: [['E', 'b'], ['E', 'a'], ['Body', 'é👍 + x'], ['Empty', '']] });
  assert.ok(twilio.validateRequest(TOKEN, form.headers['x-twilio-signature'], URL_GIVEN, { E: ['b', 'a'], Body: 'é👍 + x', Empty: '' }));
  const get = await build({ method: 'GET', params: { From: FROM } });
  assert.equal(get.url, `${URL_GIVEN}&From=%2B15551230001`);
  assert.ok(twilio.validateRequest(TOKEN, get.headers['x-twilio-signature'], get.url, {}));
  const json = await build({ json: { port_in_request_sid: 'KW00000000000000000000000000000001', status: 'completed' } });
  assert.ok(twilio.validateRequestWithBody(TOKEN, json.headers['x-twilio-signature'], json.url, json.body));
  const other = await build({ params: { A: '1' }, token: 'e'.repeat(32) });
  assert.ok(believed(other, URL_GIVEN, 'e'.repeat(32)) && !believed(other));
  const fragment = await build({ url: `${URL_GIVEN}#rc=2&rp=all`, params: { A: '1' } });
  assert.equal(fragment.url, URL_GIVEN);
});

test('the SDK signs the published vector', async (t) => {
  const standin = await openStandin(t);
  const { headers } = await standin.control('POST /callback', { account: ACCOUNT, url: 'https://example.com/x', params: [['E', 'b'], ['E', 'a'], ['E', 'a']] });
  assert.equal(headers['x-twilio-signature'], 'nbz2I9A+fITweB2sVh8bqGLWmJY=');
});

test('an inbound message is a resource and a signed webhook, and STOP opts out', async (t) => {
  const application = await openApplication(t);
  const standin = await openStandin(t, { callbackTo: application.address });
  await standin.control(`PATCH /accounts/${ACCOUNT}`, { numbers: [{ phone_number: FROM, sms_url: URL_GIVEN }] });
  const built = await standin.control('POST /inbound', { account: ACCOUNT, from: TO, to: FROM, body: 'look', media: [{ content_type: 'image/png' }] });
  assert.ok(believed(built));
  const params = new URLSearchParams(built.body);
  assert.deepEqual([params.get('NumMedia'), params.get('MediaContentType0'), params.get('SmsStatus')], ['1', 'image/png', 'received']);
  const message = await standin.client().messages(built.sid).fetch();
  assert.deepEqual([message.direction, message.status, message.body], ['inbound', 'received', 'look']);
  await standin.control(`PATCH /accounts/${ACCOUNT}`, { numbers: [{ phone_number: FROM, sms_url: URL_GIVEN, sms_application_sid: `AP${'0'.repeat(32)}` }] });
  await assert.rejects(standin.control('POST /inbound', { account: ACCOUNT, from: TO, to: FROM, body: 'look' }));
  const [number] = await standin.client().incomingPhoneNumbers.list();
  await standin.client().incomingPhoneNumbers(number.sid).update({ smsApplicationSid: '' });
  const sent = await standin.control('POST /inbound', { account: ACCOUNT, from: TO, to: FROM, body: 'Stop', send: true });
  assert.equal(sent.status, 200);
  await assert.rejects(standin.client().messages.create({ from: FROM, to: TO, body: 'x' }), { code: 21610 });
  await standin.control('POST /inbound', { account: ACCOUNT, from: TO, to: FROM, body: 'START' });
  await standin.client().messages.create({ from: FROM, to: TO, body: 'x' });
});

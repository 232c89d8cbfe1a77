// Twilio's webhooks through nginx and PostgREST, signed by the official SDK.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import http from 'node:http';
import { after, test } from 'node:test';
import webhooks from 'twilio/lib/webhooks/webhooks.js';
import { startStack, until } from './stack.mjs';

const PUBLIC = 'https://crm.example.com';
const URL = `${PUBLIC}/twilio/webhook`;
const stack = await startStack({ publicUrl: PUBLIC });
after(() => stack.stop());

let made = 0;
const newSid = () => `SM${String((made += 1)).padStart(32, '0')}`;
const inbound = (tenant, extra = {}) => ({
  AccountSid: tenant.sid,
  MessageSid: newSid(),
  SmsStatus: 'received',
  From: '+15558675310',
  To: tenant.number,
  Body: 'Hello',
  NumMedia: '0',
  NumSegments: '1',
  ApiVersion: '2010-04-01',
  ...extra,
});
const encode = (pairs) =>
  pairs
    .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`)
    .join('&')
    .replaceAll('%20', '+');
const FORM = 'application/x-www-form-urlencoded; charset=UTF-8';

// Sends bytes as they are; fetch would mend the URL.
function send(path, { method = 'POST', headers = {}, body = '' }) {
  const { hostname, port } = new globalThis.URL(stack.url);
  return new Promise((resolve, reject) => {
    const request = http.request(
      { hostname, port, method, path, headers: { 'content-length': Buffer.byteLength(body), ...headers } },
      (response) => {
        const parts = [];
        response.on('data', (part) => parts.push(part));
        response.on('end', () =>
          resolve({
            status: response.statusCode,
            type: response.headers['content-type'],
            text: Buffer.concat(parts).toString(),
          }),
        );
      },
    );
    request.on('error', reject);
    request.end(Buffer.from(body)); // of a text Node would make the headers UTF-8, too
  });
}

// A form as the SDK signs it: the parameters grouped by name.
function post(
  tenant,
  pairs,
  { suffix = '', token = tenant.secret, signedUrl = URL + suffix, headers = {}, body = encode(pairs) } = {},
) {
  const params = {};
  for (const [name, value] of pairs) params[name] = name in params ? [params[name], value].flat() : value;
  return send(`/twilio/webhook${suffix}`, {
    body,
    headers: {
      'content-type': FORM,
      'x-twilio-signature': webhooks.getExpectedTwilioSignature(token, signedUrl, params),
      ...headers,
    },
  });
}

const postForm = (tenant, params, options) => post(tenant, Object.entries(params), options);
const messages = (tenant) =>
  stack.request('GET', '/api/twilio_messages?order=created_at', { token: tenant.token }).then(({ json }) => json);
const bodies = async (tenant) => (await messages(tenant)).map((message) => message.body);

function assertTaken(answer) {
  assert.deepEqual([answer.status, answer.type], [200, 'text/xml; charset=utf-8'], answer.text);
  assert.match(answer.text, /^<Response/);
}
function assertRefused(answer) {
  assert.deepEqual([answer.status, answer.text], [403, '<Response/>']);
}

test('a signed message is taken and becomes a row of its tenant', async () => {
  const tenant = await stack.configuredTenant();
  const params = inbound(tenant, { Body: 'Grüße & 100 % – ja!' });
  assertTaken(await postForm(tenant, params));
  const [message] = await messages(tenant);
  assert.deepEqual(
    [message.direction, message.status, message.from_number, message.to_number, message.body, message.sid],
    ['inbound', 'received', '+15558675310', tenant.number, 'Grüße & 100 % – ja!', params.MessageSid],
  );
  assertTaken(await postForm(tenant, params));
  assert.equal((await messages(tenant)).length, 1);
});

test('what arrives is taken however its status is written', async () => {
  const tenant = await stack.configuredTenant();
  for (const status of [{ SmsStatus: '' }, { SmsStatus: 'Received' }, { MessageStatus: 'received' }, { SmsStatus: 'receiving' }])
    assertTaken(await postForm(tenant, inbound(tenant, { Body: JSON.stringify(status), ...status })));
  assert.equal((await messages(tenant)).filter(({ status }) => status === 'received').length, 4);
});

test('an automatic reply is XML, whatever is in it', async () => {
  const tenant = await stack.configuredTenant({ settings: { auto_reply: 'Closed <today>\u000b& tomorrow\u0001' } });
  const { text } = await postForm(tenant, inbound(tenant));
  assert.equal(text, '<Response><Message>Closed &lt;today&gt; &amp; tomorrow </Message></Response>');
});

test('an unknown parameter and a repeated one are no obstacle', async () => {
  const tenant = await stack.configuredTenant();
  assertTaken(await postForm(tenant, inbound(tenant, { SomethingNew: 'x', Body: 'unknown' })));
  assertTaken(
    await post(tenant, [
      ...Object.entries(inbound(tenant, { Body: 'repeated' })),
      ['Tag', 'b'],
      ['Tag', 'a'],
      ['Tag', 'b'],
    ]),
  );
  assertTaken(await postForm(tenant, inbound(tenant, { Body: 'empty', FromCity: '', 'Odd name [0]': '' })));
  assert.deepEqual((await bodies(tenant)).sort(), ['empty', 'repeated', 'unknown']);
});

test('bytes that are no UTF-8 are signed as they are, and replaced in the row', async () => {
  const tenant = await stack.configuredTenant();
  const params = inbound(tenant, { Body: 'caf?' });
  const content = Object.entries(params)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => name + value)
    .join('')
    .replace('caf?', 'caf\xe9');
  const signature = createHmac('sha1', tenant.secret)
    .update(Buffer.from(URL + content, 'latin1'))
    .digest('base64');
  assertTaken(
    await postForm(tenant, params, {
      body: encode(Object.entries(params)).replace('caf%3F', 'caf%E9'),
      headers: { 'x-twilio-signature': signature },
    }),
  );
  assert.deepEqual(await bodies(tenant), ['caf\ufffd']);
});

test('a body of 200 kB is taken, one above 256 kB is not', async () => {
  const tenant = await stack.configuredTenant();
  assertTaken(await postForm(tenant, inbound(tenant, { Body: 'large', Padding: 'x'.repeat(200_000) })));
  assert.equal((await postForm(tenant, inbound(tenant, { Padding: 'x'.repeat(270_000) }))).status, 413);
  assert.deepEqual(await bodies(tenant), ['large']);
});

test('GET, JSON, a path behind it, a query and ports are signed as the SDK does', async () => {
  const tenant = await stack.configuredTenant();
  const query = `?${encode(Object.entries(inbound(tenant, { Body: 'by GET' })))}`;
  assertTaken(
    await send(`/twilio/webhook${query}`, {
      method: 'GET',
      headers: { 'x-twilio-signature': webhooks.getExpectedTwilioSignature(tenant.secret, URL + query, {}) },
    }),
  );
  // As long as Twilio hands over any, in a script whose letters take nine bytes of a URL.
  const long = `?${encode(Object.entries(inbound(tenant, { Body: '漢'.repeat(1600) })))}`;
  assertTaken(
    await send(`/twilio/webhook${long}`, {
      method: 'GET',
      headers: { 'x-twilio-signature': webhooks.getExpectedTwilioSignature(tenant.secret, URL + long, {}) },
    }),
  );
  assertTaken(await postForm(tenant, inbound(tenant, { Body: 'path' }), { suffix: '/sms' }));
  assertTaken(await postForm(tenant, inbound(tenant, { Body: 'query' }), { suffix: "?a=1&b=%2F+'x'&a=2" }));
  assertTaken(
    await postForm(tenant, inbound(tenant, { Body: 'port' }), {
      signedUrl: 'https://crm.example.com:443/twilio/webhook',
    }),
  );
  const json = JSON.stringify({ AccountSid: tenant.sid, anything: 1 });
  const suffix = `?bodySHA256=${webhooks.getExpectedBodyHash(json)}`;
  assertTaken(
    await send(`/twilio/webhook${suffix}`, {
      body: json,
      headers: {
        'content-type': 'application/json',
        'x-twilio-signature': webhooks.getExpectedTwilioSignature(tenant.secret, URL + suffix, {}),
      },
    }),
  );
  assert.deepEqual((await bodies(tenant)).sort(), ['by GET', 'path', 'port', 'query', '漢'.repeat(1600)]);
});

test('a prefix of twilio.webhook_url that a proxy in front takes away is signed, and nothing else', async () => {
  const tenant = await stack.configuredTenant();
  const setUrl = async (url) => {
    await stack.sql(`ALTER SYSTEM SET twilio.webhook_url = '${url}'`);
    await stack.sql('SELECT pg_reload_conf()');
    await until('it is set', async () => (await stack.sql('SHOW twilio.webhook_url'))[0][0] === url);
  };
  const prefixed = `${PUBLIC}/crm/twilio/webhook`;
  await setUrl(prefixed);
  for (const suffix of ['', '/sms', '?a=1&b=%2F'])
    assertTaken(await postForm(tenant, inbound(tenant), { suffix, signedUrl: prefixed + suffix }));
  assertRefused(await postForm(tenant, inbound(tenant)));
  await setUrl(`${URL}/`);
  assertTaken(await postForm(tenant, inbound(tenant)));
  assertTaken(await postForm(tenant, inbound(tenant), { suffix: '/?a=1' }));
  await setUrl(URL);
  assertTaken(await postForm(tenant, inbound(tenant)));
  assertRefused(await postForm(tenant, inbound(tenant), { signedUrl: prefixed }));
});

test('after a HEAD nobody loses what comes next', async () => {
  const tenant = await stack.configuredTenant();
  for (let n = 0; n < 40; n += 1) {
    const head = await stack.request('HEAD', '/api/twilio_messages', {
      token: tenant.token,
      headers: { prefer: 'count=exact' },
    });
    assert.deepEqual([head.status, head.text, head.headers.get('content-range')?.split('/')[1]], [200, '', String(n)]);
    assertTaken(await postForm(tenant, inbound(tenant)));
  }
  assert.equal((await messages(tenant)).length, 40);
});

test('what is not signed, or not rightly, is 403 and leaves no row', async () => {
  const tenant = await stack.configuredTenant();
  const other = await stack.configuredTenant();
  const params = inbound(tenant);
  assertRefused(
    await send('/twilio/webhook', { body: encode(Object.entries(params)), headers: { 'content-type': FORM } }),
  );
  assertRefused(await send('/twilio/webhook', { method: 'GET' }));
  assertRefused(await send('/twilio/webhook', { body: 'nonsense' }));
  const odd = '\xff'; // no UTF-8
  for (const header of ['x-twilio-signature', 'content-type'])
    assertRefused(await postForm(tenant, params, { headers: { [header]: odd } }));
  assertRefused(await send(`/twilio/webhook?a=${odd}`, { body: 'a=1', headers: { 'x-twilio-signature': 'a' } }));
  assertRefused(await postForm(tenant, params, { token: 'w'.repeat(32) }));
  assertRefused(await postForm(tenant, params, { token: other.secret }));
  assertRefused(await postForm(tenant, params, { signedUrl: `${PUBLIC}/twilio/webhook/` }));
  assertRefused(await postForm(tenant, params, { signedUrl: 'https://evil.example.com/twilio/webhook' }));
  assertRefused(await postForm(tenant, params, { body: encode(Object.entries({ ...params, Body: 'changed' })) }));
  assert.deepEqual(await messages(tenant), []);
});

test('headers of a client do not change what was requested', async () => {
  const tenant = await stack.configuredTenant();
  const evil = 'https://evil.example.com/twilio/webhook';
  assertRefused(await postForm(tenant, inbound(tenant), { signedUrl: evil, headers: { 'x-twilio-url': evil } }));
  assertTaken(
    await postForm(tenant, inbound(tenant, { Body: 'spoofed' }), {
      headers: {
        'x-twilio-url': evil,
        'x-original-method': 'GET',
        'x-original-content-type': 'application/json',
        accept: 'application/json',
        prefer: 'return=minimal, tx=rollback',
        range: '0-0',
        'accept-profile': 'pg_catalog',
        'content-profile': 'pg_catalog',
        authorization: 'Bearer nonsense',
      },
    }),
  );
  assert.deepEqual(await bodies(tenant), ['spoofed']);
});

test('only a tenant who is verified and active is believed', async () => {
  const tenant = await stack.configuredTenant({ verify: false });
  assertRefused(await postForm(tenant, inbound(tenant)));
  await stack.request('POST', '/api/twilio-settings/verify', { token: tenant.token });
  assertTaken(await postForm(tenant, inbound(tenant)));
  await stack.request('PUT', '/api/twilio-settings/', { token: tenant.token, body: { is_active: false } });
  assertRefused(await postForm(tenant, inbound(tenant)));
  assert.equal((await messages(tenant)).length, 1);
});

test('a status callback reaches its message', async () => {
  const tenant = await stack.configuredTenant({
    account: {
      callbacks: 'manual',
      life: { queued_after: 1e6, sent_after: 2e6, delivered_after: 3e6, price_after: 4e6 },
    },
  });
  await stack.request('POST', '/api/rpc/twilio_send_sms', {
    token: tenant.token,
    body: { to_number: '+15558675310', body: 'Hi' },
  });
  const message = await until('Twilio took the message', async () => (await messages(tenant)).find((one) => one.sid));
  const delivery = await stack.twilio('POST', 'callback', {
    account: tenant.sid,
    message: message.sid,
    status: 'delivered',
    send: true,
  });
  assert.deepEqual([delivery.status, delivery.attempts], [200, 1]);
  assert.match(delivery.url, /^https:\/\/crm\.example\.com\/twilio\/webhook\?m=/);
  assert.equal((await messages(tenant))[0].status, 'delivered');
});

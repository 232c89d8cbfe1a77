// The check against Twilio's OpenAPI documents finds what is wrong, on both sides, and only that.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ACCOUNT, FROM, TO, assertConforming, openStandin } from './testing.mjs';

const BASE = `/2010-04-01/Accounts/${ACCOUNT}`;
const GOOD = `From=${encodeURIComponent(FROM)}&To=${encodeURIComponent(TO)}&Body=x`;

// Sends one request and returns the errors that the check found in it.
async function errorsOf(standin, path, options) {
  await standin.control('DELETE /mismatches');
  await standin.request(path, options);
  return (await standin.control('GET /mismatches')).mismatches.flatMap((mismatch) => mismatch.errors);
}

const post = (body, headers) => ({ method: 'POST', body, headers });

test('a good request has no mismatch', async (t) => {
  const standin = await openStandin(t);
  assert.deepEqual(await errorsOf(standin, `${BASE}/Messages.json`, post(GOOD)), []);
  assert.deepEqual(await errorsOf(standin, `${BASE}/Messages.json?To=%2B15551230001&DateSent%3E=2026-01-01&PageSize=1000`), []);
});

test('an unknown parameter is a mismatch, in a form and in a query', async (t) => {
  const standin = await openStandin(t);
  assert.match(String(await errorsOf(standin, `${BASE}/Messages.json`, post(`${GOOD}&Colour=red`))), /form must NOT have additional properties.*Colour/);
  assert.match(String(await errorsOf(standin, `${BASE}/Messages.json?to=1`)), /query must NOT have additional properties.*"to"/);
  assert.match(String(await errorsOf(standin, `${BASE}/Messages.json`, post(`${GOOD}&__proto__=x`))), /__proto__/);
});

test('a value of the wrong kind is a mismatch', async (t) => {
  const standin = await openStandin(t);
  const wrong = async (extra, pattern) => assert.match(String(await errorsOf(standin, `${BASE}/Messages.json`, post(`${GOOD}&${extra}`))), pattern, extra);
  await wrong('ValidityPeriod=soon', /form\/ValidityPeriod/);
  await wrong('SmartEncoded=1', /form\/SmartEncoded/);
  await wrong('StatusCallback=not-a-url', /form\/StatusCallback/);
  await wrong('ScheduleType=sometime', /form\/ScheduleType/);
  await wrong('MessagingServiceSid=SM00000000000000000000000000000001', /form\/MessagingServiceSid/);
  await wrong('To=%2B15550000000', /form\/To must be string/);
});

test('a repeated parameter is right only where Twilio takes several', async (t) => {
  const standin = await openStandin(t);
  assert.deepEqual(await errorsOf(standin, `${BASE}/Messages.json`, post(`${GOOD}&MediaUrl=https://a.example/1&MediaUrl=https://a.example/2`)), []);
  assert.match(String(await errorsOf(standin, `${BASE}/Messages.json`, post(`${GOOD}&Body=y`))), /form\/Body/);
});

test('a page size beyond the limit, an unknown operation and a wrong content type are mismatches', async (t) => {
  const standin = await openStandin(t);
  assert.match(String(await errorsOf(standin, `${BASE}/Messages.json?PageSize=1001`)), /PageSize/);
  assert.match(String(await errorsOf(standin, `${BASE}/Mesages.json`)), /no such operation/);
  assert.match(String(await errorsOf(standin, `${BASE}/Messages.json`, post(GOOD, { 'content-type': 'text/plain' }))), /must be a form/);
});

test('a request that is refused or drowned in misbehaviour is checked too', async (t) => {
  const standin = await openStandin(t);
  await standin.control('POST /behave', { action: '500' });
  assert.match(String(await errorsOf(standin, `${BASE}/Messages.json`, post(`${GOOD}&Colour=red`))), /Colour/);
  await standin.control('DELETE /behave');
  assert.match(String(await errorsOf(standin, `${BASE}/Messages.json`, { ...post(`${GOOD}&Colour=red`), auth: 'x:y' })), /Colour/);
});

test('an answer that misses a documented member or has one more is a mismatch', async (t) => {
  const standin = await openStandin(t);
  const [route] = standin.world.router.byProduct.get('api').filter((other) => other.template.endsWith('/Balance.json'));
  const honest = route.handler;
  t.after(() => { route.handler = honest; });
  route.handler = (request) => { const { balance, ...body } = honest(request).body; return { body }; };
  assert.match(String(await errorsOf(standin, `${BASE}/Balance.json`)), /must have required property 'balance'/);
  route.handler = (request) => ({ body: { ...honest(request).body, mood: 'good' } });
  assert.match(String(await errorsOf(standin, `${BASE}/Balance.json`)), /additional properties.*mood/);
  route.handler = (request) => ({ body: { ...honest(request).body, balance: 7 } });
  assert.match(String(await errorsOf(standin, `${BASE}/Balance.json`)), /\/balance must be string/);
});

test('without validation nothing is checked', async (t) => {
  const standin = await openStandin(t, { validate: false });
  await standin.request(`${BASE}/Messages.json`, post(`${GOOD}&Colour=red`));
  assert.deepEqual(await standin.control('GET /mismatches'), { enabled: false, count: 0, mismatches: [] });
});

test('nonsense never breaks the stand-in', async (t) => {
  const standin = await openStandin(t);
  for (const body of ['%', '%zz=%ff%fe', '=&=&&&', 'Body', `${GOOD}&Body=%00%ff`, '{"a":', 'x'.repeat(100_000)]) {
    for (const type of ['application/x-www-form-urlencoded', 'application/json', 'text/html']) {
      const { status } = await standin.request(`${BASE}/Messages.json`, post(body, { 'content-type': type }));
      assert.ok([201, 400].includes(status), `${status} for ${body.slice(0, 20)}`);
    }
  }
  for (const path of ['/', '/%', '//', `${BASE}/Messages/%ff.json`, `${BASE}/Messages.json?%&=`, `${BASE}/IncomingPhoneNumbers.json?PhoneNumber=(((`]) {
    assert.ok((await standin.request(path)).status < 500, path);
  }
  assert.equal((await standin.request('/', { auth: '::::' })).status, 401);
  assert.deepEqual((await standin.control('GET /stats')).faults, []);
  await standin.control('POST /reset');
  await assertConforming(standin);
});

// The ledger and the statistics, by which other tests prove what was sent.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ACCOUNT, FROM, TO, openStandin } from './testing.mjs';

test('the ledger shows every request with its ordered parameters and never a password', async (t) => {
  const standin = await openStandin(t);
  const message = await standin.client().messages.create({ from: FROM, to: TO, body: 'a & b = ü', mediaUrl: ['https://example.com/1', 'https://example.com/2'] });
  const [entry, ...more] = await standin.control('GET /ledger');
  assert.equal(more.length, 0);
  assert.deepEqual([entry.n, entry.method, entry.host, entry.account, entry.user, entry.http, entry.status, entry.accepted, entry.sid],
    [1, 'POST', 'api.twilio.com', ACCOUNT, ACCOUNT, '1.1', 201, true, message.sid]);
  assert.deepEqual(entry.params, [['To', TO], ['From', FROM], ['Body', 'a & b = ü'], ['MediaUrl', 'https://example.com/1'], ['MediaUrl', 'https://example.com/2']]);
  assert.ok(!JSON.stringify(entry).includes('12345678901234567890123456789012'));
});

test('the ledger is counted by filter and cleared', async (t) => {
  const standin = await openStandin(t);
  const client = standin.client();
  for (const body of ['one', 'two', 'two']) await client.messages.create({ from: FROM, to: TO, body });
  await client.messages.create({ from: FROM, to: '12', body: 'one' }).catch(() => {});
  const count = async (query) => (await standin.control(`GET /ledger/count?${query}`)).count;
  assert.equal(await count('method=POST&path=Messages'), 4);
  assert.equal(await count('accepted=true'), 3);
  assert.equal(await count('status=400'), 1);
  assert.equal(await count('body=two&since=2'), 1);
  assert.equal(await count('account=AC00000000000000000000000000000009'), 0);
  assert.deepEqual(await standin.control('GET /ledger/duplicates?key=To,Body'),
    { requests: 3, distinct: 2, repeated: 1, extra: 1, examples: [{ values: [TO, 'two'], times: 2 }] });
  await standin.control('DELETE /ledger');
  assert.equal(await count(''), 0);
});

test('statistics tell requests in flight', async (t) => {
  const standin = await openStandin(t);
  await standin.control('POST /behave', { action: 'delay', ms: 2000 });
  const client = standin.client();
  await Promise.all([1, 2, 3].map((n) => client.messages.create({ from: FROM, to: TO, body: `${n}` })));
  const stats = await standin.control('GET /stats');
  assert.equal(stats.requests, 3);
  assert.equal(stats.max_in_flight, 3);
  assert.equal(stats.accounts[ACCOUNT].max_in_flight, 3);
  assert.equal(stats.connections_opened, 3);
});

test('a limit on concurrent requests answers 20429', async (t) => {
  const standin = await openStandin(t);
  await standin.control(`PATCH /accounts/${ACCOUNT}`, { concurrency_limit: 2 });
  await standin.control('POST /behave', { action: 'delay', ms: 2000 });
  const client = standin.client();
  const outcomes = await Promise.allSettled([1, 2, 3, 4].map((n) => client.messages.create({ from: FROM, to: TO, body: `${n}` })));
  assert.deepEqual(outcomes.map((outcome) => outcome.reason?.code ?? 'ok').sort(), [20429, 20429, 'ok', 'ok']);
});

test('a reset leaves nothing behind', async (t) => {
  const standin = await openStandin(t);
  await standin.control('POST /behave', { action: '500' });
  await standin.client().messages.create({ from: FROM, to: TO, body: 'x' }).catch(() => {});
  await standin.control('POST /reset');
  assert.deepEqual(await standin.control('GET /ledger'), []);
  assert.deepEqual(await standin.control('GET /behave'), []);
  assert.deepEqual(await standin.control('GET /accounts'), []);
});

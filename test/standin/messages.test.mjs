// Messages through the official SDK: what is accepted, what is refused, and how a message goes on.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ACCOUNT, FROM, TO, assertConforming, openStandin, until } from './testing.mjs';

const SERVICE = 'MG00000000000000000000000000000001';

test('a message is queued, sent and delivered, and rated later', async (t) => {
  const standin = await openStandin(t);
  const client = standin.client();
  const created = await client.messages.create({ from: FROM, to: TO, body: 'Hello 👍' });
  assert.deepEqual([created.status, created.numSegments, created.price, created.dateSent], ['queued', '1', null, null]);
  const delivered = await until(async () => {
    const message = await client.messages(created.sid).fetch();
    return message.status === 'delivered' && message.price !== null && message;
  }, 'delivered and rated');
  assert.equal(delivered.price, '-0.00790');
  assert.ok(delivered.dateSent instanceof Date);
  await assertConforming(standin);
});

test('a list is filtered by numbers and day and comes newest first', async (t) => {
  const standin = await openStandin(t);
  const client = standin.client();
  for (const body of ['one', 'two', 'three']) await client.messages.create({ from: FROM, to: TO, body });
  await client.messages.create({ from: FROM, to: '+15551230777', body: 'elsewhere' });
  const today = new Date().toISOString().slice(0, 10);
  assert.deepEqual((await client.messages.list({ to: TO, from: FROM, dateSent: today, pageSize: 2 })).map((message) => message.body), ['three', 'two', 'one']);
  assert.equal((await client.messages.list({ dateSentAfter: new Date(Date.now() + 60_000) })).length, 0);
  assert.equal((await client.messages.list({ dateSentBefore: new Date(Date.now() - 60_000) })).length, 0);
  await assertConforming(standin);
});

test('what Twilio refuses is refused with its code', async (t) => {
  const standin = await openStandin(t);
  const client = standin.client();
  const refused = async (given, code) => {
    const params = { from: FROM, to: TO, body: 'x', ...given };
    await assert.rejects(client.messages.create(params), (error) => {
      assert.equal(error.code, code, JSON.stringify(given).slice(0, 80));
      return error.status === 400;
    });
  };
  await refused({ to: '12' }, 21211);
  await refused({ to: '+15005550001' }, 21211);
  await refused({ to: '+15005550009' }, 21614);
  await refused({ from: '???' }, 21212);
  await refused({ from: '+15551230002' }, 21606);
  await refused({ from: undefined }, 21603);
  await refused({ body: '' }, 21602);
  await refused({ body: 'x'.repeat(1601) }, 21617);
  await refused({ mediaUrl: Array(11).fill('https://example.com/a.jpg') }, 21623);
  await refused({ from: undefined, messagingServiceSid: SERVICE }, 21705);
  await standin.control(`PATCH /accounts/${ACCOUNT}`, { opt_outs: [{ from: FROM, to: TO }] });
  await refused({}, 21610);
  await standin.control(`PATCH /accounts/${ACCOUNT}`, { opt_outs: [{ from: FROM, to: TO, opted_out: false }], type: 'Trial', verified_numbers: ['+15551234567'] });
  await refused({}, 21608);
  assert.equal((await standin.control('GET /ledger/count?accepted=true')).count, 0);
  await assertConforming(standin);
});

test('a message without a recipient is 21604, and no conforming request', async (t) => {
  const standin = await openStandin(t);
  const { text } = await standin.request(`/2010-04-01/Accounts/${ACCOUNT}/Messages.json`, { method: 'POST', body: 'Body=x' });
  assert.equal(JSON.parse(text).code, 21604);
  assert.equal((await standin.control('GET /mismatches')).count, 1);
});

test('a fate decides how a message ends', async (t) => {
  const standin = await openStandin(t);
  await standin.control('POST /fates', { match: { to: TO }, status: 'undelivered', error_code: 30003, times: 1 });
  const client = standin.client();
  const doomed = await client.messages.create({ from: FROM, to: TO, body: 'x' });
  const lucky = await client.messages.create({ from: FROM, to: TO, body: 'x' });
  const ended = (sid) => until(async () => {
    const message = await client.messages(sid).fetch();
    return ['delivered', 'undelivered'].includes(message.status) && message;
  }, 'an end');
  assert.deepEqual([(await ended(doomed.sid)).errorCode, (await ended(lucky.sid)).errorCode], [30003, null]);
  await assertConforming(standin);
});

test('a scheduled message can be canceled, a delivered one redacted and deleted', async (t) => {
  const standin = await openStandin(t);
  await standin.control(`PATCH /accounts/${ACCOUNT}`, { messaging_services: [SERVICE] });
  const client = standin.client();
  const scheduled = await client.messages.create({ messagingServiceSid: SERVICE, to: TO, body: 'later', scheduleType: 'fixed', sendAt: new Date(Date.now() + 3_600_000) });
  assert.deepEqual([scheduled.status, scheduled.from, scheduled.numSegments], ['scheduled', null, '0']);
  assert.equal((await client.messages(scheduled.sid).update({ status: 'canceled' })).status, 'canceled');
  await assert.rejects(client.messages(scheduled.sid).update({ status: 'canceled' }), { status: 409, code: 30409 });
  const sent = await client.messages.create({ from: FROM, to: TO, body: 'secret' });
  await assert.rejects(client.messages(sent.sid).remove(), { code: 20009 });
  await until(async () => (await client.messages(sent.sid).fetch()).status === 'delivered', 'delivered');
  assert.equal((await client.messages(sent.sid).update({ body: '' })).body, '');
  await client.messages(sent.sid).remove();
  await assert.rejects(client.messages(sent.sid).fetch(), { status: 404, code: 20404 });
  await assertConforming(standin);
});

test('media make a picture message', async (t) => {
  const standin = await openStandin(t);
  const client = standin.client();
  const message = await client.messages.create({ from: FROM, to: TO, mediaUrl: ['https://example.com/a.jpg', 'https://example.com/b.jpg'] });
  assert.match(message.sid, /^MM/);
  assert.equal(message.numMedia, '2');
  assert.equal((await client.messages(message.sid).media.list()).length, 2);
  await assertConforming(standin);
});

test('segments are counted as carriers do', async (t) => {
  const standin = await openStandin(t);
  const client = standin.client();
  const count = async (body) => Number((await client.messages.create({ from: FROM, to: TO, body })).numSegments);
  assert.equal(await count('a'.repeat(160)), 1);
  assert.equal(await count('a'.repeat(161)), 2);
  assert.equal(await count('€'.repeat(80)), 1);
  assert.equal(await count('€'.repeat(81)), 2);
  assert.equal(await count('ç'.repeat(70)), 1);
  assert.equal(await count('👍'.repeat(36)), 2);
});

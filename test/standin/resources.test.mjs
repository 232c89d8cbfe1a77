// Calls, recordings, usage, lookups and porting through the official SDK.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ACCOUNT, FROM, TO, assertConforming, openStandin, until } from './testing.mjs';

test('a call rings, is answered and ends, and leaves a recording', async (t) => {
  const standin = await openStandin(t);
  const client = standin.client();
  const call = await client.calls.create({ from: FROM, to: TO, url: 'https://crm.example.com/voice', record: true });
  assert.equal(call.status, 'queued');
  const ended = await until(async () => {
    const seen = await client.calls(call.sid).fetch();
    return seen.status === 'completed' && seen;
  }, 'completed');
  assert.deepEqual([ended.duration, ended.price], ['1', '-0.01400']);
  assert.equal((await client.recordings.list({ callSid: call.sid })).length, 1);
  assert.equal((await client.calls.list({ to: TO, status: 'completed' })).length, 1);
  await assertConforming(standin);
});

test('a call is hung up, and one that ended cannot be redirected', async (t) => {
  const standin = await openStandin(t);
  await standin.control('POST /fates', { status: 'in-progress' });
  const client = standin.client();
  const call = await client.calls.create({ from: FROM, to: TO, twiml: '<Response/>' });
  await until(async () => (await client.calls(call.sid).fetch()).status === 'in-progress', 'answered');
  assert.equal((await client.calls(call.sid).update({ status: 'completed' })).status, 'completed');
  await assert.rejects(client.calls(call.sid).update({ twiml: '<Response/>' }), { code: 21220 });
  await client.calls(call.sid).remove();
  await assert.rejects(client.calls(call.sid).fetch(), { status: 404 });
  await assertConforming(standin);
});

test('what Twilio refuses of a call is refused with its code', async (t) => {
  const standin = await openStandin(t);
  const refused = (given, code) => assert.rejects(standin.client().calls.create({ from: FROM, to: TO, url: 'https://crm.example.com/voice', ...given }), { status: 400, code });
  await refused({ url: undefined }, 21205);
  await refused({ from: '+15551230002' }, 21210);
  await refused({ to: '12' }, 21211);
  await refused({ to: '+15005550003' }, 21215);
  await refused({ from: '+15005550001' }, 21212);
  await assertConforming(standin);
});

test('usage adds up what was sent', async (t) => {
  const standin = await openStandin(t);
  const client = standin.client();
  for (const body of ['one', 'two']) await client.messages.create({ from: FROM, to: TO, body });
  const [month] = await client.usage.records.thisMonth.list({ category: 'sms-outbound' });
  assert.deepEqual([month.count, month.usage, month.price], ['2', '2', '0.0158']);
  assert.ok((await client.usage.records.list()).length > 3);
  const days = await client.usage.records.daily.list({ category: 'sms', startDate: new Date(Date.now() - 2 * 86_400_000), endDate: new Date() });
  assert.equal(days.length, 3);
  await assertConforming(standin);
});

test('a lookup tells good numbers from bad ones', async (t) => {
  const standin = await openStandin(t);
  const lookup = (number, options) => standin.client().lookups.v2.phoneNumbers(number).fetch(options);
  const good = await lookup('+14155552671', { fields: 'line_type_intelligence' });
  assert.deepEqual([good.valid, good.countryCode, good.lineTypeIntelligence.type], [true, 'US', 'mobile']);
  assert.deepEqual((await lookup('+141555526711')).validationErrors, ['TOO_LONG']);
  await assertConforming(standin);
});

test('a number is found portable and a port-in request is made and canceled', async (t) => {
  const standin = await openStandin(t);
  const { v1 } = standin.client().numbers;
  assert.equal((await v1.portingPortabilities('+14155552671').fetch()).portable, true);
  assert.equal((await v1.portingPortabilities(FROM).fetch()).notPortableReasonCode, 22132);
  const order = {
    account_sid: ACCOUNT, documents: ['RD00000000000000000000000000000001'], phone_numbers: [{ phone_number: '+14155552671' }],
    losing_carrier_information: { customer_type: 'Business', customer_name: 'Acme', authorized_representative: 'A. Person', authorized_representative_email: 'a@example.com',
      address: { street: 'Main Street 1', city: 'Springfield', state: 'CA', zip: '94103', country: 'US' } },
  };
  const send = (body) => standin.request('/v1/Porting/PortIn', { host: 'numbers.twilio.com', method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json' } });
  const created = await send(order);
  assert.equal(created.status, 202);
  const sid = JSON.parse(created.text).port_in_request_sid;
  const fetched = await v1.portingPortIns(sid).fetch();
  assert.equal(fetched.phoneNumbers[0].phoneNumber, '+14155552671');
  const list = async (query) => JSON.parse((await standin.request(`/v1/Porting/PortIn/PortInRequests?${query}`, { host: 'numbers.twilio.com' })).text);
  const second = JSON.parse((await send(order)).text).port_in_request_sid;
  const page = await list('Size=1');
  assert.deepEqual([page.port_in_requests[0].port_in_request_sid, page.meta], [sid, { previous_token: null, next_token: second }]);
  const last = await list(`Size=1&Token=${second}`);
  assert.deepEqual([last.port_in_requests[0].port_in_request_sid, last.meta], [second, { previous_token: sid, next_token: null }]);
  await v1.portingPortIns(sid).remove();
  assert.equal((await v1.portingPortIns(sid).fetch()).portInRequestStatus, 'Canceled');
  await assertConforming(standin);
  assert.equal((await send({ ...order, documents: [] })).status, 400);
  assert.equal((await send({ ...order, colour: 'red' })).status, 202);
  assert.match(String((await standin.control('GET /mismatches')).mismatches[0].errors), /colour/);
});

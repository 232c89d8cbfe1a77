// The account and its numbers, seen through the official SDK.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ACCOUNT, FROM, OTHER, TOKEN, assertConforming, openStandin } from './testing.mjs';

const KEY = 'SK00000000000000000000000000000001';

test('the account fetch shows name, status, type and the token in clear', async (t) => {
  const standin = await openStandin(t);
  await standin.control(`PATCH /accounts/${ACCOUNT}`, { friendly_name: 'Acme', type: 'Trial' });
  const account = await standin.client().api.v2010.accounts(ACCOUNT).fetch();
  assert.deepEqual([account.friendlyName, account.status, account.type, account.authToken], ['Acme', 'active', 'Trial', TOKEN]);
  assert.equal((await standin.client().balance.fetch()).currency, 'USD');
  await assertConforming(standin);
});

test('an answer carries the headers that Twilio sends', async (t) => {
  const standin = await openStandin(t);
  const { headers } = await standin.request(`/2010-04-01/Accounts/${ACCOUNT}.json`);
  assert.match(headers['twilio-request-id'], /^RQ[0-9a-f]{32}$/);
  assert.equal(headers['twilio-concurrent-requests'], '1');
  assert.match(headers['twilio-request-duration'], /^\d+\.\d{3}$/);
});

test('a wrong token, an unknown account and a suspended one are 20003', async (t) => {
  const standin = await openStandin(t);
  const refused = { status: 401, code: 20003, message: 'Authenticate', moreInfo: 'https://www.twilio.com/docs/errors/20003' };
  await assert.rejects(standin.client(ACCOUNT, 'wrong').api.v2010.accounts(ACCOUNT).fetch(), refused);
  await assert.rejects(standin.client(OTHER, TOKEN, OTHER).api.v2010.accounts(OTHER).fetch(), refused);
  await standin.control(`PATCH /accounts/${ACCOUNT}`, { status: 'suspended' });
  await assert.rejects(standin.client().api.v2010.accounts(ACCOUNT).fetch(), refused);
  await standin.control(`PATCH /accounts/${ACCOUNT}`, { suspended_as: 20403 });
  await assert.rejects(standin.client().api.v2010.accounts(ACCOUNT).fetch(), { status: 403, code: 20403 });
  await standin.control(`PATCH /accounts/${ACCOUNT}`, { suspended_as: 'readable' });
  assert.equal((await standin.client().api.v2010.accounts(ACCOUNT).fetch()).status, 'suspended');
  await assertConforming(standin);
});

test('a changed token replaces the old one', async (t) => {
  const standin = await openStandin(t);
  await standin.control(`PATCH /accounts/${ACCOUNT}`, { token: 'f'.repeat(32) });
  await assert.rejects(standin.client().api.v2010.accounts(ACCOUNT).fetch(), { code: 20003 });
  assert.equal((await standin.client(ACCOUNT, 'f'.repeat(32)).api.v2010.accounts(ACCOUNT).fetch()).sid, ACCOUNT);
});

test('a standard API key lists numbers but may not fetch the account', async (t) => {
  const standin = await openStandin(t);
  await standin.control(`PATCH /accounts/${ACCOUNT}`, { keys: [{ sid: KEY, secret: 'hush' }] });
  const client = standin.client(KEY, 'hush');
  assert.equal((await client.incomingPhoneNumbers.list()).length, 1);
  await assert.rejects(client.api.v2010.accounts(ACCOUNT).fetch(), { status: 401, code: 20003 });
  await assert.rejects(standin.client(KEY, 'wrong').incomingPhoneNumbers.list(), { status: 401, code: 20003 });
  await standin.control(`PATCH /accounts/${ACCOUNT}`, { keys: [{ sid: KEY, secret: 'hush', standard: false }] });
  assert.equal((await client.api.v2010.accounts(ACCOUNT).fetch()).sid, ACCOUNT);
});

test('one account cannot see another, but a parent sees its subaccount', async (t) => {
  const standin = await openStandin(t);
  await standin.control('POST /accounts', { sid: OTHER, token: 'e'.repeat(32) });
  await assert.rejects(standin.client().api.v2010.accounts(OTHER).fetch(), { status: 404, code: 20404 });
  await standin.control(`PATCH /accounts/${OTHER}`, { owner_account_sid: ACCOUNT });
  assert.equal((await standin.client().api.v2010.accounts(OTHER).fetch()).ownerAccountSid, ACCOUNT);
  await assertConforming(standin);
});

test('all numbers are listed over several pages', async (t) => {
  const standin = await openStandin(t);
  await standin.control(`PATCH /accounts/${ACCOUNT}`, { numbers: 123 });
  const numbers = await standin.client().incomingPhoneNumbers.list({ pageSize: 50 });
  assert.equal(new Set(numbers.map((number) => number.sid)).size, 123);
  assert.equal((await standin.control('GET /ledger/count?path=IncomingPhoneNumbers')).count, 3);
  await assert.rejects(standin.client().incomingPhoneNumbers.page({ pageToken: 'nonsense' }), { code: 21481 });
  await assertConforming(standin);
});

test('a page of more than 1000 is 20007', async (t) => {
  const standin = await openStandin(t);
  const { status, text } = await standin.request(`/2010-04-01/Accounts/${ACCOUNT}/IncomingPhoneNumbers.json?PageSize=1001`);
  assert.deepEqual([status, JSON.parse(text).code], [400, 20007]);
});

test('a number is found, its webhooks set, another one bought and released', async (t) => {
  const standin = await openStandin(t);
  const client = standin.client();
  const [number] = await client.incomingPhoneNumbers.list({ phoneNumber: '123000' });
  assert.equal(number.phoneNumber, FROM);
  const mine = client.incomingPhoneNumbers(number.sid);
  assert.equal((await mine.update({ smsUrl: 'https://crm.example.com/hook', voiceUrl: '' })).smsUrl, 'https://crm.example.com/hook');
  assert.equal((await mine.fetch()).smsUrl, 'https://crm.example.com/hook');
  await assert.rejects(mine.update({ smsUrl: 'https://' }), { code: 21402 });
  const [offer] = await client.availablePhoneNumbers('US').local.list({ areaCode: 415, limit: 1 });
  const bought = await client.incomingPhoneNumbers.create({ phoneNumber: offer.phoneNumber });
  assert.equal(bought.phoneNumber, offer.phoneNumber);
  await assert.rejects(client.incomingPhoneNumbers.create({ phoneNumber: offer.phoneNumber }), { code: 21422 });
  await client.incomingPhoneNumbers(bought.sid).remove();
  await assert.rejects(client.incomingPhoneNumbers(bought.sid).fetch(), { status: 404, code: 20404 });
});

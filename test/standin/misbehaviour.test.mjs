// Each way to misbehave does what its name says, to those requests only that it was ordered for.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ACCOUNT, FROM, TO, openStandin, until } from './testing.mjs';

const PATH = `/2010-04-01/Accounts/${ACCOUNT}/Messages.json`;
const BODY = `From=${encodeURIComponent(FROM)}&To=${encodeURIComponent(TO)}&Body=x`;
const accepted = async (standin) => (await standin.control('GET /ledger/count?method=POST&accepted=true')).count;

async function open(t, order) {
  const standin = await openStandin(t);
  await standin.control('POST /behave', order);
  const post = () => standin.request(PATH, { method: 'POST', body: BODY });
  return { ...standin, post };
}

test('delay answers later', async (t) => {
  const standin = await open(t, { action: 'delay', ms: 200 });
  const started = Date.now();
  assert.equal((await standin.post()).status, 201);
  assert.ok(Date.now() - started >= 195);
});

test('late takes notice of a request after its client has gone', async (t) => {
  const standin = await open(t, { action: 'hang', late: 300 });
  await assert.rejects(Promise.race([standin.post(), new Promise((_, reject) => { setTimeout(() => reject(new Error('no answer')), 50); })]), { message: 'no answer' });
  assert.equal(await accepted(standin), 0);
  await until(async () => await accepted(standin) === 1, 'the request is accepted');
});

test('429, 500 and 503 do not do what was asked', async (t) => {
  for (const [action, code] of [['429', 20429], ['500', 20500], ['503', 20503]]) {
    const standin = await open(t, { action, retry_after: 7 });
    const { status, headers, text } = await standin.post();
    assert.deepEqual([status, JSON.parse(text).code, headers['retry-after']], [Number(action), code, '7']);
    assert.equal(await accepted(standin), 0);
  }
});

test('500 with accept does what was asked and denies it', async (t) => {
  const standin = await open(t, { action: '500', accept: true });
  assert.equal((await standin.post()).status, 500);
  assert.equal(await accepted(standin), 1);
  const [entry] = await standin.control('GET /ledger');
  assert.deepEqual([entry.status, entry.accepted], [500, true]);
});

test('hang accepts and never answers', async (t) => {
  const standin = await open(t, { action: 'hang' });
  await assert.rejects(Promise.race([standin.post(), new Promise((_, reject) => { setTimeout(() => reject(new Error('no answer')), 300); })]), { message: 'no answer' });
  assert.equal(await accepted(standin), 1);
  assert.equal((await standin.control('GET /stats')).in_flight, 1);
});

test('accept-then-drop accepts, drop-before does not', async (t) => {
  for (const [action, count] of [['accept-then-drop', 1], ['drop-before', 0]]) {
    const standin = await open(t, { action });
    await assert.rejects(standin.post(), { code: 'ECONNRESET' });
    assert.equal(await accepted(standin), count);
    assert.equal((await standin.control('GET /ledger'))[0].status, 0);
  }
});

test('html, truncate, bad-json and huge spoil the answer', async (t) => {
  const html = await (await open(t, { action: 'html' })).post();
  assert.deepEqual([html.status, html.headers['content-type']], [502, 'text/html']);
  assert.match(html.text, /^<!DOCTYPE html>/);
  const cut = await open(t, { action: 'truncate' });
  await assert.rejects(cut.post(), { code: 'ECONNRESET' });
  assert.equal(await accepted(cut), 1);
  const bad = await (await open(t, { action: 'bad-json' })).post();
  assert.equal(bad.status, 201);
  assert.throws(() => JSON.parse(bad.text), SyntaxError);
  const huge = await (await open(t, { action: 'huge', bytes: 3 << 20 })).post();
  assert.ok(huge.text.length > 3 << 20);
});

test('status answers anything', async (t) => {
  const odd = await (await open(t, { action: 'status', status: 418, body_json: { code: 99999, message: 'teapot' }, headers: { 'x-odd': '1' } })).post();
  assert.deepEqual([odd.status, odd.headers['x-odd'], JSON.parse(odd.text).code], [418, '1', 99999]);
  const plain = await (await open(t, { action: 'status', status: 200, body_text: '' })).post();
  assert.deepEqual([plain.status, plain.text], [200, '']);
});

test('close answers and ends the connection', async (t) => {
  const standin = await open(t, { action: 'close' });
  assert.equal((await standin.post()).headers.connection, 'close');
  await standin.post();
  assert.equal((await standin.control('GET /stats')).connections_opened, 2);
});

test('an order is for those it matches, as often as it says', async (t) => {
  const standin = await open(t, { match: { method: 'POST', path: 'Messages\\.json$', account: ACCOUNT, body: 'Body=x' }, action: '500', times: 2 });
  assert.equal((await standin.request(PATH)).status, 200);
  assert.deepEqual([(await standin.post()).status, (await standin.post()).status, (await standin.post()).status], [500, 500, 201]);
  assert.deepEqual((await standin.control('GET /behave')).map(({ used, left }) => [used, left]), [[2, 0]]);
  await standin.control('POST /behave', { match: { account: 'AC00000000000000000000000000000009' }, action: '500' });
  assert.equal((await standin.post()).status, 201);
  await standin.control('DELETE /behave');
  assert.deepEqual(await standin.control('GET /behave'), []);
});

test('an order with a probability strikes now and then', async (t) => {
  const standin = await open(t, { action: '503', probability: 0.5 });
  const statuses = [];
  for (let n = 0; n < 60; n += 1) statuses.push((await standin.post()).status);
  assert.deepEqual([...new Set(statuses)].sort(), [201, 503]);
});

test('an unknown action is refused', async (t) => {
  const standin = await openStandin(t);
  await assert.rejects(standin.control('POST /behave', { action: 'explode' }), /unknown action/);
});

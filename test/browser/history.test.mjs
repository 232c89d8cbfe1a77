// What the settings page shows of the past: the chart, what statuses are called, and long lists of messages, of which older
// ones come when asked for, and whoever reads keeps the place.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { startStack } from '../rest/stack.mjs';
import { openPage, startBrowser } from './browser.mjs';
import { item, verifiedPages } from './messages.mjs';

const stack = await startStack();
const browser = await startBrowser();
after(async () => {
  await browser.close();
  await stack.stop();
});

const openVerified = verifiedPages(browser, stack);

test('older messages come when asked for', async (t) => {
  const { tenant, page } = await openVerified(t);
  const rows = [...Array(30).keys()].map((n) => ({ to_number: '+15558675310', body: `Reminder ${n}` }));
  assert.equal((await stack.request('POST', '/api/twilio_messages', { token: tenant.token, body: rows })).status, 201);
  await item(page, 'Reminder 29').waitFor();
  assert.equal(await page.locator('#messages-list > li').count(), 25);
  await page.getByRole('button', { name: 'Show older messages' }).press('Enter');
  await item(page, 'Reminder 4').first().waitFor();
  assert.equal(await page.locator('#messages-list > li').count(), 30);
  await page.locator('#more').waitFor({ state: 'hidden' });
  assert.match(await page.evaluate(() => document.activeElement.innerText), /Reminder 4/, 'the first of them has the focus');
});

test('older messages that are slow to come keep their place, whatever was asked for before', async (t) => {
  const { tenant, page } = await openVerified(t);
  const rows = [...Array(60).keys()].map((n) => ({ to_number: '+15558675310', body: `Reminder ${n}` }));
  assert.equal((await stack.request('POST', '/api/twilio_messages', { token: tenant.token, body: rows })).status, 201);
  await item(page, 'Reminder 59').waitFor();
  await page.route('**/api/twilio_messages?**', async (route) => {
    await new Promise((resolve) => setTimeout(resolve, 700));
    await route.continue();
  });
  await page.waitForRequest('**/api/twilio_messages?**');
  const more = page.getByRole('button', { name: 'Show older messages' });
  await more.press('Enter');
  await item(page, 'Reminder 10').first().waitFor();
  assert.equal(await page.locator('#messages-list > li').count(), 50);
  assert.ok(await more.evaluate((button) => button === document.activeElement), 'the button has the focus');
  await page.unrouteAll({ behavior: 'ignoreErrors' });
});

test('in a low window, or with a field made larger, what has the focus beside a long list can be seen', async (t) => {
  const { tenant, page } = await openVerified(t);
  const rows = [...Array(25).keys()].map((n) => ({ to_number: '+15558675310', body: `Reminder ${n}` }));
  assert.equal((await stack.request('POST', '/api/twilio_messages', { token: tenant.token, body: rows })).status, 201);
  await item(page, 'Reminder 24').waitFor();
  await page.setViewportSize({ width: 911, height: 413 }); // 1366 × 768 at 150 %
  for (const height of ['', '600px']) {
    await page.locator('#body').evaluate((field, value) => (field.style.height = value), height);
    await page.locator('#body').focus();
    await page.keyboard.press('Tab');
    const { y, height: own } = await page.locator('#send-button').boundingBox();
    assert.ok(y >= 0 && y + own <= 413, `${y} + ${own}`);
  }
});

test('more than 1000 messages, which PostgREST gives in parts: the oldest is reached', async (t) => {
  const { tenant, page } = await openVerified(t);
  const rows = [...Array(1010).keys()].map((n) => ({ to_number: '+15558675310', body: `Reminder ${n}` }));
  assert.equal((await stack.request('POST', '/api/twilio_messages', { token: tenant.token, body: rows })).status, 201);
  await item(page, 'Reminder 1009').waitFor();
  for (let pages = 0; pages < 60 && (await page.locator('#more').isVisible()); pages += 1) {
    const before = await page.locator('#messages-list > li').count();
    await page.getByRole('button', { name: 'Show older messages' }).click();
    await page.waitForFunction(
      (n) => document.querySelectorAll('#messages-list > li').length > n || document.querySelector('#more').hidden,
      before,
    );
  }
  assert.equal(await page.locator('#messages-list > li').count(), 1010);
});

test('the chart and its table show what was counted, in groups, from the first day to today', async (t) => {
  const tenant = await stack.configuredTenant();
  const days = [...Array(14).keys()].map((n) => new Date(Date.UTC(2026, 2, 25 + n)).toISOString().slice(0, 10));
  const counted = [
    ['outbound', 'delivered', 30],
    ['outbound', 'read', 5],
    ['inbound', 'received', 6],
    ['inbound', 'sparkling', 1],
    ['outbound', 'queued', 3],
    ['outbound', 'sparkling', 1],
    ['outbound', 'failed', 2],
    ['outbound', 'undelivered', 1],
    ['outbound', 'unresolved', 1],
    ['outbound', 'canceled', 1],
  ].map(([direction, status, messages]) => ({ day: days[4], direction, status, messages }));
  const none = days.filter((day) => day !== days[4]).map((day) => ({ day, direction: null, status: null, messages: 0 }));
  const page = await openPage(t, browser, stack, null, { timezoneId: 'America/Los_Angeles' });
  await page.route('**/rpc/twilio_messages_per_day?**', (route) => route.fulfill({ json: [...counted, ...none.reverse()] }));
  await page.goto(`${stack.url}/twilio-settings?#token=${tenant.token}`);
  await page.locator('#chart svg').waitFor();
  const text = (selector) => page.locator(selector).evaluateAll((found) => found.map((one) => one.textContent));
  assert.match(await page.locator('#chart svg').getAttribute('aria-label'), /^Messages per day, 51 in all\./);
  assert.deepEqual(await text('#chart-table tbody tr:nth-child(5) > *'), ['29 Mar 2026', '35', '7', '4', '5']);
  assert.deepEqual((await text('#chart-table tbody th')).length, 14);
  assert.deepEqual(await text('#legend li'), ['Delivered', 'Received', 'On the way', 'Failed or canceled']);
  assert.match((await text('#chart title'))[4], /^Sunday,? 29 March 2026: 35 delivered, 7 received, 4 on the way, 5 failed or canceled$/);
  // 60 is the least round number above 51; a line at half of it, and a name for each third day up to the last.
  assert.deepEqual(await text('#chart svg > text'), ['0', '30', '60', '26 Mar', '29 Mar', '1 Apr', '4 Apr', '7 Apr']);
  const bars = await page.locator('#chart rect').evaluateAll((found) =>
    found.map((one) => ['y', 'height'].map((name) => Number(one.getAttribute(name)))),
  );
  const [bottom, perMessage] = [166, 156 / 60];
  let y = bottom;
  for (const [at, messages] of [35, 7, 4, 5].entries()) {
    y -= messages * perMessage;
    assert.ok(Math.abs(bars[at][0] - y) < 0.01 && Math.abs(bars[at][1] - messages * perMessage + 1) < 0.01, `${bars[at]}`);
  }
  assert.equal(bars.length, 4);
});

test('each status has a name for people, and offers what can be done about it', async (t) => {
  const tenant = await stack.configuredTenant();
  const message = (status, more = {}) => ({
    id: `${status}-${more.direction ?? 'outbound'}`,
    direction: 'outbound',
    from_number: '+15005550006',
    to_number: '+15558675310',
    body: 'Hello',
    status,
    num_segments: 1,
    num_media: 0,
    created_at: '2026-03-25T10:00:00Z',
    ...more,
  });
  const expected = [
    ['pending', 'Waiting', 'Cancel'],
    ['submitting', 'Sending'],
    ['unknown', 'Checking'],
    ['unresolved', 'Unclear', 'Send again'],
    ['accepted', 'Accepted'],
    ['scheduled', 'Scheduled', 'Cancel'],
    ['queued', 'Queued'],
    ['sending', 'Sending'],
    ['sent', 'Sent'],
    ['partially_delivered', 'Delivered in part'],
    ['delivered', 'Delivered'],
    ['read', 'Read'],
    ['undelivered', 'Not delivered', 'Send again'],
    ['failed', 'Failed', 'Send again'],
    ['canceled', 'Canceled'],
    ['sparkling', 'sparkling'],
  ];
  const rows = [
    ...expected.map(([status]) => message(status)),
    message('received', { direction: 'inbound', num_segments: 2, num_media: 1 }),
    message('failed', { direction: 'inbound', error_code: 11200 }),
  ];
  const page = await openPage(t, browser, stack, null);
  await page.route('**/api/twilio_messages?**', (route) => route.fulfill({ json: rows }));
  await page.goto(`${stack.url}/twilio-settings?#token=${tenant.token}`);
  await item(page, 'Received').waitFor();
  const shown = await page.locator('#messages-list > li').evaluateAll((items) =>
    items.map((one) => [one.querySelector('.state').textContent, one.querySelector('button')?.textContent]),
  );
  assert.deepEqual(shown, [...expected.map(([, ...what]) => [what[0], what[1]]), ['Received', undefined], ['Failed', undefined]]);
  assert.match(await page.locator('#messages-list > li').nth(16).innerText(), /^From \+15005550006\b[^]*2 segments\s+1 attachment/);
  const problem = page.locator('#messages-list > li').nth(17).locator('.problem');
  assert.equal(await problem.innerText(), 'Twilio reports an error: 11200');
  assert.equal(await problem.locator('a').getAttribute('href'), 'https://www.twilio.com/docs/api/errors/11200');
});

// Long lists of messages on the settings page: older ones come when asked for, and whoever reads keeps the place.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { startStack } from '../rest/stack.mjs';
import { startBrowser } from './browser.mjs';
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

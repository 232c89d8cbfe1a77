// The account's numbers on the settings page, in Chromium on the real stack: the list, the choice of a sender, and
// that they report here.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { startStack, until } from '../rest/stack.mjs';
import { assertAccessible, openPage, shows, startBrowser } from './browser.mjs';
import { item, verifiedPages } from './messages.mjs';
import { NUMBERS, configure, lookAgain, saved, storedOf } from './settings.mjs';

const stack = await startStack();
const browser = await startBrowser();
after(async () => {
  await browser.close();
  await stack.stop();
});

const stored = storedOf(stack);
const openVerified = verifiedPages(browser, stack);

test('a name given at Twilio is text, whatever is in it', async (t) => {
  const evil = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>';
  const tenant = await stack.configuredTenant({
    account: { friendly_name: evil, numbers: [{ phone_number: '+15005550006', friendly_name: evil }] },
  });
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#numbers-list', evil);
  await shows(page, '#facts', evil);
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  assert.equal(await page.locator('main img, main script').count(), 0);
});

test('the numbers come while somebody is in the field for one: the list that takes its place has the focus', async (t) => {
  const tenant = await stack.configuredTenant({ settings: { phone_number: null }, account: { numbers: NUMBERS } });
  const page = await openPage(t, browser, stack, null);
  let release;
  const focused = new Promise((resolve) => {
    release = resolve;
  });
  await page.route('**/api/twilio-settings/phone-numbers', async (route) => {
    await focused;
    await route.continue();
  });
  await page.goto(`${stack.url}/twilio-settings?#token=${tenant.token}`);
  await shows(page, '#status', 'Verified');
  await page.locator('#phone_number').focus();
  release();
  await shows(page, '#numbers-list', 'Reception');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'phone_choice');
  await stack.request('DELETE', '/api/twilio-settings/', { token: tenant.token });
  await lookAgain(page);
  await shows(page, '#status', 'Not configured');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'phone_number');
});

test('who is about to type another number, and has a look elsewhere first, finds the field again', async (t) => {
  const tenant = await stack.configuredTenant({ settings: { phone_number: null }, account: { numbers: NUMBERS } });
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#numbers-list', 'Reception');
  await page.locator('#phone_choice').selectOption('other');
  await lookAgain(page);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'phone_number');
  await page.keyboard.type('+15005550010');
  await page.keyboard.press('Enter');
  await saved(page);
  assert.equal((await stored(tenant)).phone_number, '+15005550010');
  assert.equal(await page.locator('#phone_choice').inputValue(), '+15005550010');
  await page.locator('#phone_choice').selectOption('None');
  await page.getByRole('button', { name: 'Save Settings' }).click();
  await saved(page);
  assert.equal((await stored(tenant)).phone_number, null);
});

test('an administrator, who may read the numbers of all, sees and offers the own ones', async (t) => {
  const other = await stack.configuredTenant({ account: { numbers: ['+15005550099'] } });
  await stack.request('GET', '/api/twilio-settings/phone-numbers', { token: other.token });
  const admin = await stack.newTenant({ numbers: NUMBERS });
  const page = await openPage(t, browser, stack, stack.token(admin.user, { role: 'twilio_admin' }));
  await shows(page, '#status', 'Not configured');
  await configure(page, admin);
  await page.getByRole('button', { name: 'Verify Credentials' }).click();
  await shows(page, '#status', 'Verified');
  await page.locator('#verify:not([aria-busy])').waitFor();
  const numbers = NUMBERS.map((number) => number.phone_number);
  assert.deepEqual(await page.locator('#numbers-list strong').allInnerTexts(), numbers);
  await page.reload();
  await shows(page, '#numbers-list', 'Reception');
  assert.deepEqual(await page.locator('#numbers-list strong').allInnerTexts(), numbers);
  assert.deepEqual(
    await page.locator('#from_number option').evaluateAll((options) => options.map(({ value }) => value)),
    ['', '+15005550006', '+15005550010'],
  );
});

test('what a number can do and what it is called are said, where there is something to say', async (t) => {
  const mute = { phone_number: '+442071838750', friendly_name: '+442071838750', capabilities: { sms: false, mms: false, voice: false } };
  const tenant = await stack.configuredTenant({ account: { numbers: [...NUMBERS.slice(0, 2), mute] } });
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#numbers-list', 'Reception');
  const listed = await page.locator('#numbers-list > li').allInnerTexts();
  assert.deepEqual(listed.map((text) => text.split(/\s*\n\s*/)), [
    ['+15005550006', 'Reception', 'SMS', 'MMS', 'Voice'],
    ['+15005550010', 'Dr Ellis', 'SMS', 'Voice'],
    ['+442071838750', 'No capabilities'],
  ]);
  assert.deepEqual(await page.locator('#phone_choice option').allInnerTexts(), [
    'None',
    '+15005550006 (Reception)',
    '+15005550010 (Dr Ellis)',
    '+442071838750',
    'Another number …',
  ]);
});

test('who verifies anew sees the numbers anew', async (t) => {
  const tenant = await stack.configuredTenant({ account: { numbers: NUMBERS } });
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#numbers-list', 'Reception');
  await stack.twilio('PATCH', `accounts/${tenant.sid}`, { numbers: [{ phone_number: '+15005550011', friendly_name: 'New desk' }] });
  await page.getByRole('button', { name: 'Verify Credentials' }).click();
  await shows(page, '#numbers-list', 'New desk');
  assert.doesNotMatch(await page.locator('#numbers-list').innerText(), /Reception/);
});

test('a long list of numbers scrolls, also by keyboard', async (t) => {
  const numbers = [...Array(120).keys()].map((n) => `+1500600${String(n).padStart(4, '0')}`);
  const tenant = await stack.configuredTenant({ account: { numbers } });
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#numbers-list', '+15006000119');
  await assertAccessible(page, 'many numbers');
  await page.locator('#numbers-region').focus();
  await page.keyboard.press('End');
  await page.waitForFunction(() => document.querySelector('#numbers-region').scrollTop > 1000);
});

test('more than 1000 numbers, which PostgREST gives in parts: all are listed, also when the page is opened again', async (t) => {
  const numbers = [...Array(1003).keys()].map((n) => `+1500600${String(n).padStart(4, '0')}`);
  const tenant = await stack.configuredTenant({ account: { numbers } });
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#numbers-list > li:nth-child(1003)', '+15006001002');
  await page.reload();
  await shows(page, '#numbers-list > li:nth-child(1003)', '+15006001002');
});

test('numbers report here when they report to twilio.webhook_url, whatever the browser calls the server', async (t) => {
  const tenant = await stack.configuredTenant({ account: { numbers: NUMBERS } });
  const url = 'https://hooks.example.com/twilio/webhook';
  t.after(() => stack.sql('ALTER SYSTEM RESET twilio.webhook_url').then(() => stack.sql('SELECT pg_reload_conf()')));
  await stack.sql(`ALTER SYSTEM SET twilio.webhook_url = '${url}'`);
  await stack.sql('SELECT pg_reload_conf()');
  await until('it is set', async () => (await stack.sql('SHOW twilio.webhook_url'))[0][0] === url);
  const page = await openPage(t, browser, stack, tenant.token);
  await page.getByRole('button', { name: 'Receive messages here' }).click();
  await page.locator('#numbers-receive').waitFor({ state: 'hidden' });
  await page.reload();
  await shows(page, '#numbers-list', 'Dr Ellis');
  assert.equal(await page.locator('#numbers-receive').isVisible(), false);
});

test('numbers are told to report here, and what they receive is shown', async (t) => {
  const { tenant, page } = await openVerified(t);
  await page.getByRole('button', { name: 'Receive messages here' }).press('Enter');
  await page.locator('#numbers-receive').waitFor({ state: 'hidden' });
  assert.equal(await page.evaluate(() => document.activeElement.id), 'numbers-title', 'the focus is not lost');
  const told = await stack.twilio('GET', `ledger?account=${tenant.sid}&method=POST&path=IncomingPhoneNumbers`);
  assert.deepEqual(
    told.map(({ params }) => params.map(([name]) => name)),
    Array(2).fill(['SmsUrl', 'SmsMethod', 'SmsApplicationSid', 'StatusCallback', 'StatusCallbackMethod']),
  );
  const inbound = {
    account: tenant.sid,
    from: '+15558675310',
    to: '+15005550006',
    body: 'Do you have time?',
    send: true,
  };
  assert.equal((await stack.twilio('POST', 'inbound', inbound)).status, 200);
  await item(page, 'Do you have time?').filter({ hasText: 'Received' }).waitFor();
});

test('why numbers cannot be told to report here is said', async (t) => {
  const { tenant, page } = await openVerified(t);
  await stack.request('PATCH', `/api/twilio_settings?user_id=eq.${tenant.user}`, {
    token: tenant.token,
    body: { is_active: false },
  });
  await page.getByRole('button', { name: 'Receive messages here' }).click();
  await shows(page, '#numbers-empty', 'The Twilio account is switched off.');
  assert.doesNotMatch(await page.locator('#numbers').innerText(), /list could not be fetched/);
  await page.waitForFunction(() => /switched off/.test(document.querySelector('#announcer').textContent));
});

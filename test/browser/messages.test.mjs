// Sending and watching messages on the settings page, on the real stack: the stand-in's callbacks come in by the webhook.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { startStack, until } from '../rest/stack.mjs';
import { assertAccessible, expire, openPage, shows, startBrowser } from './browser.mjs';
import { NUMBERS, item, verifiedPages, write } from './messages.mjs';
import { lookAgain } from './settings.mjs';

const stack = await startStack();
const browser = await startBrowser();
after(async () => {
  await browser.close();
  await stack.stop();
});

const count = (tenant) =>
  stack
    .twilio('GET', `ledger/count?account=${tenant.sid}&method=POST&path=Messages.json`)
    .then((answer) => answer.count);
const openVerified = verifiedPages(browser, stack);
// Waits until a screen reader is told.
const said = (page, text) =>
  page.waitForFunction((words) => document.querySelector('#announcer').textContent === words, text);

test('first visit → configure → verify → numbers → send → delivered', async (t) => {
  const tenant = await stack.newTenant({ numbers: NUMBERS });
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#send-closed', 'Save the settings of your Twilio account first.');
  await page.getByLabel('Account SID').fill(tenant.sid);
  await page.getByLabel('Auth Token').fill(tenant.secret);
  await page.getByRole('button', { name: 'Save Settings' }).click();
  await shows(page, '#send-closed', 'Verify the credentials first.');
  await page.getByRole('button', { name: 'Verify Credentials' }).click();
  await shows(page, '#numbers-list', 'Reception');
  await page.getByLabel('From').selectOption('+15005550010');
  await write(page, '+1 555 867 5310', 'Your appointment is tomorrow at 10.');
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await shows(page, '#send-notice', 'Message to +15558675310 is on its way.');
  await item(page, 'Your appointment').filter({ hasText: 'Delivered' }).waitFor();
  await said(page, 'Message to +15558675310: Delivered.');
  assert.equal(await page.getByLabel('Message', { exact: true }).inputValue(), '');
  await page.getByText('Show as a table').click();
  await shows(page, '#chart-table tr:last-child', /1000$/);
  const [{ from_number, status }] = (await stack.request('GET', '/api/twilio_messages', { token: tenant.token })).json;
  assert.deepEqual([from_number, status], ['+15005550010', 'delivered']);
  await assertAccessible(page, 'with a message');
});

test('the counter knows segments and alphabets', async (t) => {
  const { page } = await openVerified(t);
  const counts = async (body, expected) => {
    await page.getByLabel('Message', { exact: true }).fill(body);
    assert.equal(await page.locator('#segments').innerText(), expected);
  };
  await counts('a', '1 character · 1 segment · GSM-7');
  await counts('a'.repeat(160), '160 characters · 1 segment · GSM-7');
  await counts('a'.repeat(161), '161 characters · 2 segments · GSM-7');
  await counts(`${'a'.repeat(152)}€${'a'.repeat(152)}`, '306 characters · 3 segments · GSM-7');
  await counts('ж'.repeat(71), '71 characters · 2 segments · UCS-2 · because of “ж”');
  await counts('a'.repeat(306), '306 characters · 2 segments · GSM-7');
  await counts('ж'.repeat(134), '134 characters · 2 segments · UCS-2 · because of “ж”');
  await counts('👍'.repeat(67), '134 characters · 3 segments · UCS-2 · because of “👍”');
  await counts('👍', '2 characters · 1 segment · UCS-2 · because of “👍”');
});

test('the usual sender is the one that the server takes: a Messaging Service, the default number, the phone number', async (t) => {
  const { tenant, page } = await openVerified(t, { settings: { phone_number: '+15005550006' } });
  const usual = () => page.locator('#from_number option').first().innerText();
  await shows(page, '#numbers-list', 'Dr Ellis');
  assert.equal(await usual(), 'Usual number (+15005550006)');
  const change = (method, path, body) => stack.request(method, path, { token: tenant.token, body });
  const number = '/api/twilio_numbers?phone_number=eq.%2B15005550010';
  assert.equal((await change('PATCH', number, { is_default: true })).status, 204);
  await page.reload();
  await shows(page, '#numbers-list', 'Dr Ellis');
  assert.equal(await usual(), 'Usual number (+15005550010)');
  await change('PUT', '/api/twilio-settings/', { messaging_service_sid: `MG${'5'.repeat(32)}` });
  await page.reload();
  await shows(page, '#numbers-list', 'Dr Ellis');
  assert.equal(await usual(), 'Messaging Service');
});

test('the form for sending keeps the sender that was chosen, and says what is missing', async (t) => {
  const { tenant, page } = await openVerified(t);
  await page.getByLabel('From').selectOption('+15005550010');
  await page.getByRole('button', { name: 'Refresh' }).click();
  await said(page, '3 phone numbers listed.');
  assert.equal(await page.getByLabel('From').inputValue(), '+15005550010');
  for (const [change, missing] of [
    [{ sms_enabled: false }, 'SMS is switched off in the settings.'],
    [{ is_active: false }, 'This account is switched off.'],
  ]) {
    await stack.request('PUT', '/api/twilio-settings/', { token: tenant.token, body: change });
    await lookAgain(page);
    await shows(page, '#send-closed', missing);
    assert.equal(await page.locator('#send-form').isVisible(), false);
  }
});

test('a text that runs from right to left does, in what is written and in what is shown', async (t) => {
  const { page } = await openVerified(t);
  await write(page, '+15558675310', 'Hello\nשלום, מחר ב-10!');
  assert.equal(await page.locator('#body').evaluate((one) => getComputedStyle(one).unicodeBidi), 'plaintext');
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await item(page, 'שלום').waitFor();
  // How far the ends of a part of the text are from the sides of its paragraph.
  const margins = (from, to) =>
    page.locator('#messages-list .message-body').evaluate(
      (paragraph, [start, end]) => {
        const range = document.createRange();
        range.setStart(paragraph.firstChild, start);
        range.setEnd(paragraph.firstChild, end);
        const [box, part] = [paragraph.getBoundingClientRect(), range.getBoundingClientRect()];
        return [part.left - box.left, box.right - part.right].map((distance) => distance < 2);
      },
      [from, to],
    );
  assert.deepEqual(await margins(0, 5), [true, false], 'from the left');
  assert.deepEqual(await margins(6, 10), [false, true], 'from the right');
});

test('a number is taken as contact lists have it, with what cannot be seen in it', async (t) => {
  const { tenant, page } = await openVerified(t);
  await write(page, '\u202a+1\u00a0(555)\u00a0867\u20115310\u202c', 'pasted');
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await shows(page, '#send-notice', 'Message to +15558675310 is on its way.');
  await page.getByLabel('Phone number', { exact: false }).first().selectOption('Another number …');
  await page.getByLabel('Another phone number').fill('\u2066+44 20 7183\u20138750\u2069');
  await page.getByRole('button', { name: 'Save Settings' }).click();
  await shows(page, '#account-notice', 'Settings saved.');
  const { json } = await stack.request('GET', '/api/twilio-settings/', { token: tenant.token });
  assert.equal(json.phone_number, '+442071838750');
});

test('a double click sends once', async (t) => {
  const { tenant, page } = await openVerified(t);
  await write(page, '+15558675310', 'Only once');
  await page.getByRole('button', { name: 'Send', exact: true }).dblclick();
  await item(page, 'Only once').filter({ hasText: 'Delivered' }).waitFor();
  assert.equal(await count(tenant), 1);
});

test('what is typed while a message is being sent is kept', async (t) => {
  const { tenant, page } = await openVerified(t);
  await write(page, '+15558675310', 'The first');
  let release;
  const typed = new Promise((resolve) => {
    release = resolve;
  });
  await page.route(
    '**/rpc/twilio_send_sms',
    async (route) => {
      const response = await route.fetch();
      await typed;
      await route.fulfill({ response });
    },
    { times: 1 },
  );
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await page.getByLabel('Message', { exact: true }).fill('The second');
  await page.getByLabel('To', { exact: true }).focus();
  release();
  await shows(page, '#send-notice', 'is on its way');
  assert.equal(await page.getByLabel('Message', { exact: true }).inputValue(), 'The second');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'to_number');
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await item(page, 'The second').filter({ hasText: 'Delivered' }).waitFor();
  assert.equal(await count(tenant), 2);
});

test('an answer that got lost: sending again does not send twice, another text is another message', async (t) => {
  const { tenant, page } = await openVerified(t);
  await write(page, '+15558675310', 'Lost answer');
  await page.route(
    '**/rpc/twilio_send_sms',
    async (route) => {
      await route.fetch();
      await route.abort();
    },
    { times: 1 },
  );
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await shows(page, '#send-notice', 'The server cannot be reached.');
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await shows(page, '#send-notice', 'is on its way');
  await item(page, 'Lost answer').filter({ hasText: 'Delivered' }).waitFor();
  assert.equal(await count(tenant), 1);
  await write(page, '+15558675310', 'Lost as well');
  await page.route('**/rpc/twilio_send_sms', (route) => route.fetch().then(() => route.abort()), { times: 1 });
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await shows(page, '#send-notice', 'The server cannot be reached.');
  await page.getByLabel('Message', { exact: true }).fill('Not quite the same');
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await item(page, 'Not quite the same').filter({ hasText: 'Delivered' }).waitFor();
  assert.equal(await count(tenant), 3);
});

test('what cannot be sent is told at its field', async (t) => {
  const { page } = await openVerified(t);
  const refused = async (field, words) => {
    await page.getByRole('button', { name: 'Send', exact: true }).click();
    await shows(page, `#${field}-error`, words);
    assert.equal(await page.evaluate(() => document.activeElement.id), field);
  };
  await refused('to_number', 'E.164 format');
  await page.getByLabel('To', { exact: true }).fill('+15558675310');
  await refused('body', 'neither a body nor media');
  await page.getByLabel('Message', { exact: true }).fill('x'.repeat(1601));
  await refused('body', 'at most 1600 characters');
  await assertAccessible(page, 'an error at the message');
});

test('where no sender is set, one is asked for at its field', async (t) => {
  const { page } = await openVerified(t, { settings: { phone_number: null } });
  await shows(page, '#numbers-list', 'Reception');
  assert.equal(await page.locator('#from_number option').first().innerText(), 'None chosen yet');
  await write(page, '+15558675310', 'From whom?');
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await shows(page, '#from_number-error', 'The message has no sender.');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'from_number');
  await page.getByLabel('From').selectOption('+15005550010');
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await item(page, 'From whom?').waitFor();
});

test('what Twilio refuses is told with its reason, and can be sent again', async (t) => {
  const { tenant, page } = await openVerified(t);
  await stack.twilio('POST', 'fates', {
    match: { account: tenant.sid, to: '+15558675311' },
    status: 'undelivered',
    error_code: 30003,
  });
  await write(page, '+15558675311', 'Switched off');
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await item(page, 'Switched off').filter({ hasText: 'Not delivered' }).filter({ hasText: '30003' }).waitFor();
  await said(page, 'Message to +15558675311: Not delivered.');
  await write(page, '+15005550001', 'No such number');
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  const failed = item(page, 'No such number').filter({ hasText: 'Failed' });
  await failed.filter({ hasText: '21211' }).waitFor();
  await assertAccessible(page, 'failed messages');
  await failed.getByRole('button', { name: 'Send again' }).click();
  await until('it was tried again', async () => (await count(tenant)) === 3);
});

test('who has opted out gets nothing, and the page does not say that it is on its way', async (t) => {
  const { tenant, page } = await openVerified(t);
  await stack.request('POST', '/api/twilio_opt_outs', { token: tenant.token, body: { phone_number: '+15558675310' } });
  await write(page, '+15558675310', 'Hello again');
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await shows(page, '#send-notice', 'The recipient has opted out.');
  assert.equal(await page.locator('#send-notice').getAttribute('data-kind'), 'error');
  assert.equal(await page.getByLabel('Message', { exact: true }).inputValue(), 'Hello again');
  const inAgain = { opted_in_at: 'now' };
  await stack.request('PATCH', '/api/twilio_opt_outs?opted_in_at=is.null', { token: tenant.token, body: inAgain });
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await shows(page, '#send-notice', 'Message to +15558675310 is on its way.');
});

test('a waiting message can be canceled', async (t) => {
  const { tenant, page } = await openVerified(t);
  await stack.request('POST', '/api/twilio_messages', {
    token: tenant.token,
    body: {
      to_number: '+15558675310',
      body: 'Next week',
      send_at: new Date(Date.now() + 7 * 86_400_000).toISOString(),
    },
  });
  await item(page, 'Next week').getByRole('button', { name: 'Cancel' }).click();
  await item(page, 'Next week').filter({ hasText: 'Canceled' }).waitFor();
  assert.equal(await count(tenant), 0);
  await page.getByText('Show as a table').click();
  await shows(page, '#chart-table tr:last-child', /0001$/);
  assert.equal(await page.locator('#chart-table thead th').last().innerText(), 'Failed or canceled');
});

test('why a message can be neither canceled nor sent again is told, and stays until the next action', async (t) => {
  const { tenant, page } = await openVerified(t);
  const post = (path, body) => stack.request('POST', `/api/${path}`, { token: tenant.token, body });
  const send_at = new Date(Date.now() + 7 * 86_400_000).toISOString();
  await post('twilio_messages', { to_number: '+15558675310', body: 'Next week', send_at });
  await page.route('**/rpc/twilio_cancel_message', (route) => route.fulfill({ json: false }), { times: 1 });
  await item(page, 'Next week').getByRole('button', { name: 'Cancel' }).click();
  await shows(page, '#messages-notice', 'It is too late to cancel this message.');

  await post('twilio_messages', { to_number: '+15005550001', body: 'No such number' });
  const failed = item(page, 'No such number').filter({ hasText: 'Failed' });
  await failed.waitFor();
  await post('rpc/twilio_update_settings', { sms_enabled: false });
  const looks = [];
  page.on('response', (answer) => answer.url().includes('/api/twilio_messages?') && looks.push(answer));
  await failed.getByRole('button', { name: 'Send again' }).click();
  await shows(page, '#messages-notice', 'SMS is switched off');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'messages-notice');
  const before = looks.length;
  await until('the list was asked for again', () => looks.length > before + 1);
  await shows(page, '#messages-notice', 'SMS is switched off');
  await item(page, 'Next week').getByRole('button', { name: 'Cancel' }).click();
  await item(page, 'Next week').filter({ hasText: 'Canceled' }).waitFor();
  assert.equal(await page.locator('#messages-notice').isVisible(), false);
});

test('a message that arrives is shown as text, whatever is in it', async (t) => {
  const { tenant, page } = await openVerified(t);
  const evil = '<img src=x onerror="window.pwned=1"> & <b>bold</b>\n"quoted"';
  await stack.twilio('POST', 'inbound', {
    account: tenant.sid,
    from: '+15558675310',
    to: '+15005550006',
    body: evil,
    url: `${stack.publicUrl}/twilio/webhook`,
    send: true,
  });
  await item(page, '<img src=x onerror="window.pwned=1"> & <b>bold</b>').filter({ hasText: 'Received' }).waitFor();
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  assert.equal(await page.locator('#messages img, #messages b').count(), 0);
});

test('of a message with pictures or for later that is said, also where it has no text', async (t) => {
  const { tenant, page } = await openVerified(t);
  await stack.twilio('POST', 'inbound', {
    account: tenant.sid,
    from: '+15558675310',
    to: '+15005550006',
    body: '',
    media: 2,
    url: `${stack.publicUrl}/twilio/webhook`,
    send: true,
  });
  await item(page, '+15558675310').filter({ hasText: '2 attachments' }).waitFor();
  const send_at = new Date(Date.now() + 30 * 86_400_000).toISOString();
  const body = { to_number: '+15558675311', body: 'See you', send_at };
  const sent = await stack.request('POST', '/api/rpc/twilio_send_sms', { token: tenant.token, body });
  assert.equal(sent.status, 200, sent.text);
  await item(page, 'See you').filter({ hasText: /planned for \d+ \w+ \d{4}/ }).waitFor();
});

test("where the server does not know the browser's time zone, days are counted by its offset", async (t) => {
  const tenant = await stack.configuredTenant();
  const page = await openPage(t, browser, stack, null, { timezoneId: 'Asia/Kolkata' });
  // Chromium says Asia/Calcutta, which Debian 13 has no more; this name nobody has.
  await page.addInitScript(() => {
    const said = Intl.DateTimeFormat.prototype.resolvedOptions;
    Intl.DateTimeFormat.prototype.resolvedOptions = function resolvedOptions() {
      return { ...said.call(this), timeZone: 'Asia/Nowhere' };
    };
  });
  const asked = [];
  page.on('request', (request) => asked.push(new URL(request.url()).searchParams.get('time_zone')));
  await page.evaluate((token) => sessionStorage.setItem('twilio.jwt', token), tenant.token);
  await page.reload();
  await page.locator('#chart svg').waitFor();
  assert.equal(await page.locator('#messages-state').innerText(), '');
  const zone = asked.filter(Boolean).at(-1);
  const [[minutes]] = await stack.sql(
    `SELECT extract(epoch FROM now() AT TIME ZONE '${zone}' - now() AT TIME ZONE 'Asia/Kolkata') / 60`,
  );
  assert.equal(Number(minutes), 0, zone);
});

test('another user sees none of it', async (t) => {
  const { tenant, page } = await openVerified(t);
  await write(page, '+15558675310', 'For your eyes only');
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await item(page, 'For your eyes only').waitFor();
  await expire(page, stack, tenant.user);
  await shows(page, '#sign-in-reason', 'Your session has ended.');
  const other = await stack.configuredTenant();
  await page.getByLabel('Token', { exact: true }).fill(other.token);
  await page.getByRole('button', { name: 'Continue' }).click();
  await shows(page, '#messages-empty', 'No messages yet.');
  assert.ok(!(await page.content()).includes('For your eyes only'));
});

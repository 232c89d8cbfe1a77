// The settings page in Chromium on the real stack: configure, verify, delete, and what goes wrong meanwhile.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { mint, pause, startStack, until } from '../rest/stack.mjs';
import { PHONE, assertAccessible, openPage, shows, startBrowser } from './browser.mjs';
import { NUMBERS, configure, lookAgain, saved, storedOf } from './settings.mjs';

const stack = await startStack();
const browser = await startBrowser();
after(async () => {
  await browser.close();
  await stack.stop();
});

const stored = storedOf(stack);

test('first visit: configure, verify, see the numbers, choose one', async (t) => {
  const tenant = await stack.newTenant({ numbers: NUMBERS });
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#status', 'Not configured');
  assert.equal(new URL(page.url()).hash, '');
  await assertAccessible(page, 'not configured');
  await configure(page, tenant);
  await shows(page, '#status', 'Not verified');
  await assertAccessible(page, 'not verified');
  await page.getByRole('button', { name: 'Verify Credentials' }).click();
  await shows(page, '#status', 'Verified');
  await shows(page, '#account-notice', 'Twilio accepted the credentials.');
  await shows(page, '#facts', 'Sunshine Dental');
  await shows(page, '#numbers-list > li:nth-child(3)', '+442071838750');
  assert.deepEqual(
    await page
      .locator('#numbers-list > li')
      .allInnerTexts()
      .then((all) => all.map((text) => text.split(/\s*\n\s*/))),
    [
      ['+15005550006', 'Reception', 'SMS', 'MMS', 'Voice'],
      ['+15005550010', 'Dr Ellis', 'SMS', 'Voice'],
      ['+442071838750', 'Voice'],
    ],
  );
  await page
    .getByLabel('Phone number', { exact: false })
    .and(page.locator('select'))
    .first()
    .selectOption('+15005550010');
  await page.getByRole('switch', { name: 'Voice' }).uncheck();
  await page.getByRole('button', { name: 'Save Settings' }).click();
  await saved(page);
  const { phone_number, voice_enabled, sms_enabled, is_verified } = await stored(tenant);
  assert.deepEqual([phone_number, voice_enabled, sms_enabled, is_verified], ['+15005550010', false, true, true]);
  await assertAccessible(page, 'verified');
  await page.reload();
  await shows(page, '#numbers-list', '+15005550010');
  assert.equal(await page.locator('#phone_choice').inputValue(), '+15005550010');
});

test('the token is write-only: it is in no field, attribute or text once it was saved', async (t) => {
  const tenant = await stack.newTenant();
  const page = await openPage(t, browser, stack, tenant.token);
  await configure(page, tenant);
  const everything = () =>
    page.evaluate(() =>
      [
        document.documentElement.outerHTML,
        ...[...document.querySelectorAll('input')].map((input) => input.value),
        location.href,
        JSON.stringify(localStorage),
      ].join('\n'),
    );
  assert.ok(!(await everything()).includes(tenant.secret));
  assert.equal(await page.getByLabel('Auth Token').inputValue(), '');
  assert.equal(await page.getByLabel('Auth Token').getAttribute('placeholder'), '••••••••');
  await page.reload();
  await shows(page, '#status', 'Not verified');
  assert.ok(!(await everything()).includes(tenant.secret));
  await page.getByRole('switch', { name: 'SMS' }).uncheck();
  await page.getByRole('button', { name: 'Save Settings' }).click();
  await saved(page);
  assert.equal(
    (await stack.request('POST', '/api/twilio-settings/verify', { token: tenant.token })).json.verified,
    true,
  );
});

test('a token can be looked at while it is typed', async (t) => {
  const page = await openPage(t, browser, stack, (await stack.newTenant()).token);
  await shows(page, '#status', 'Not configured');
  const token = page.getByLabel('Auth Token');
  await token.fill('a token');
  assert.equal(await token.getAttribute('type'), 'password');
  await page.getByRole('button', { name: 'Show', exact: true }).click();
  assert.equal(await token.getAttribute('type'), 'text');
  await page.getByRole('button', { name: 'Hide', exact: true }).click();
  assert.equal(await token.getAttribute('type'), 'password');
});

test('what is typed while the settings are still being loaded is kept', async (t) => {
  const tenant = await stack.newTenant();
  const page = await openPage(t, browser, stack, null);
  await page.route(
    '**/api/twilio-settings/',
    async (route) => {
      await pause(1000);
      await route.continue();
    },
    { times: 1 },
  );
  await page.goto(`${stack.url}/twilio-settings#token=${tenant.token}`);
  await page.getByLabel('Account SID').fill(tenant.sid);
  await shows(page, '#status', 'Not configured');
  assert.equal(await page.getByLabel('Account SID').inputValue(), tenant.sid);
});

test('what is saved while the settings are still being loaded changes them', async (t) => {
  const tenant = await stack.configuredTenant({ settings: { voice_enabled: false } });
  const page = await openPage(t, browser, stack, null);
  await page.route('**/api/twilio-settings/', async (route) => {
    await pause(700);
    await route.continue();
  });
  await page.goto(`${stack.url}/twilio-settings#token=${tenant.token}`);
  await page.getByLabel('Auth Token').fill('n'.repeat(32));
  await page.getByRole('button', { name: 'Save Settings' }).click();
  await saved(page);
  await shows(page, '#status', 'Not verified');
  const { account_sid, voice_enabled } = await stored(tenant);
  assert.deepEqual([account_sid, voice_enabled], [tenant.sid, false]);
});

test('what is typed while the settings are being saved is kept, and saved next time', async (t) => {
  const tenant = await stack.configuredTenant();
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#status', 'Verified');
  await page.route(
    '**/api/twilio-settings/',
    async (route) => {
      await pause(700);
      await route.continue();
    },
    { times: 1 },
  );
  await page.getByRole('switch', { name: 'Voice' }).uncheck();
  await page.getByRole('button', { name: 'Save Settings' }).click();
  await page.getByRole('switch', { name: 'SMS' }).uncheck();
  await page.getByLabel('Account SID').fill('AC meanwhile');
  await saved(page);
  assert.equal(await page.getByLabel('Account SID').inputValue(), 'AC meanwhile');
  assert.equal(await page.getByRole('switch', { name: 'SMS' }).isChecked(), false);
  assert.deepEqual(
    await stored(tenant).then(({ sms_enabled, voice_enabled }) => [sms_enabled, voice_enabled]),
    [true, false],
  );
  await page.getByLabel('Account SID').fill(tenant.sid);
  await page.getByRole('button', { name: 'Save Settings' }).click();
  await until('it is saved', async () => !(await stored(tenant)).sms_enabled);
});

test('what the server refuses stands at its field, in its words, and the field has the focus', async (t) => {
  const tenant = await stack.newTenant();
  const page = await openPage(t, browser, stack, tenant.token);
  const refused = async (field, words) => {
    await page.getByRole('button', { name: 'Save Settings' }).click();
    await shows(page, `#${field}-error`, words);
    assert.equal(await page.evaluate(() => document.activeElement.id), field);
    assert.equal(await page.locator(`#${field}`).getAttribute('aria-invalid'), 'true');
    assert.match(await page.locator(`#${field}`).getAttribute('aria-describedby'), new RegExp(`${field}-error`));
    assert.equal(await page.locator('.error:visible').count(), 1);
  };
  await page.getByLabel('Account SID').fill('AC123');
  await refused('account_sid', 'An Account SID has 34 characters and starts with AC.');
  await page.getByLabel('Account SID').fill(tenant.sid);
  await refused('auth_token', 'No Auth Token is stored for this user yet.');
  await page.getByLabel('Auth Token').fill('too short');
  await refused('auth_token', 'An Auth Token has at least 32 characters');
  await assertAccessible(page, 'an error at a field');
  await page.getByLabel('Auth Token').fill(tenant.secret);
  await page.locator('#phone_number').fill('555');
  await refused('phone_number', 'A phone number is written in E.164 format');
  await page.locator('#phone_number').fill('+1 (500) 555-0006');
  await page.getByRole('button', { name: 'Save Settings' }).click();
  await saved(page);
  assert.equal(await page.locator('.error:visible').count(), 0);
  assert.equal((await stored(tenant)).phone_number, '+15005550006');
});

test("a wrong token is told with Twilio's reason, and a right one mends it", async (t) => {
  const tenant = await stack.newTenant();
  const page = await openPage(t, browser, stack, tenant.token);
  await configure(page, { ...tenant, secret: 'w'.repeat(32) });
  await page.getByRole('button', { name: 'Verify Credentials' }).click();
  await shows(page, '#account-notice', 'the Account SID or the Auth Token is wrong');
  await shows(page, '#status', 'Not verified');
  await assertAccessible(page, 'verification failed');
  await page.getByLabel('Auth Token').fill(tenant.secret);
  await page.getByRole('button', { name: 'Verify Credentials' }).click();
  await shows(page, '#status', 'Verified');
  await shows(page, '#account-notice', 'Twilio accepted the credentials.');
});

test('while Twilio is asked, progress is shown, and a double click asks once', async (t) => {
  const tenant = await stack.configuredTenant({ verify: false });
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#status', 'Not verified');
  const { id } = await stack.twilio('POST', 'behave', { match: { account: tenant.sid }, action: 'delay', ms: 700 });
  await page.getByRole('button', { name: 'Verify Credentials' }).dblclick();
  await shows(page, '#status', 'Verifying');
  assert.equal(await page.locator('#verify').getAttribute('aria-busy'), 'true');
  assert.match(await page.locator('#announcer').innerText(), /Asking Twilio|^$/);
  await shows(page, '#status', 'Verified');
  await stack.twilio('DELETE', `behave/${id}`);
  assert.deepEqual(await stack.twilio('GET', `ledger/count?account=${tenant.sid}&path=Accounts/AC[^/]*.json`), {
    count: 1,
  });
});

test('a double click on Save Settings creates once and shows no error', async (t) => {
  const tenant = await stack.newTenant();
  const page = await openPage(t, browser, stack, tenant.token);
  await page.getByLabel('Account SID').fill(tenant.sid);
  await page.getByLabel('Auth Token').fill(tenant.secret);
  const posts = [];
  page.on('request', (request) => {
    if (request.method() === 'POST') posts.push(request.url());
  });
  await page.getByRole('button', { name: 'Save Settings' }).dblclick();
  await saved(page);
  assert.equal(posts.length, 1);
});

test('Twilio down: the page says so and keeps what it knew', async (t) => {
  const tenant = await stack.configuredTenant();
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#status', 'Verified');
  await shows(page, '#numbers-list', tenant.number);
  await stack.twilio('POST', 'behave', { match: { account: tenant.sid }, action: '503', times: 1 });
  const verify = page.getByRole('button', { name: 'Verify Credentials' });
  const notice = page.locator('#account-notice');
  await verify.click();
  await shows(page, '#account-notice', 'status.twilio.com');
  assert.match(await notice.innerText(), /^Twilio's answer could not be used\. Try again later; /);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'account-notice');
  await shows(page, '#status', 'Verified');
  await stack.twilio('POST', 'behave', { match: { account: tenant.sid }, action: '429', times: 1 });
  await verify.click();
  await shows(page, '#account-notice', 'Twilio asks to slow down. Try again in a few seconds.');
});

test('why the credentials could not be verified stays until the next action, whoever looks meanwhile', async (t) => {
  const tenant = await stack.configuredTenant();
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#numbers-list', tenant.number);
  await stack.twilio('POST', 'behave', { match: { account: tenant.sid }, action: '503', times: 1 });
  await page.getByRole('button', { name: 'Verify Credentials' }).click();
  await shows(page, '#account-notice', 'status.twilio.com');
  await lookAgain(page);
  await shows(page, '#account-notice', 'status.twilio.com');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'account-notice');
  await page.getByRole('button', { name: 'Verify Credentials' }).click();
  await shows(page, '#account-notice', 'Twilio accepted the credentials.');
});

test('what is wrong with the credentials is said aloud once, not each time that the page looks', async (t) => {
  const tenant = await stack.configuredTenant({ verify: false });
  await stack.request('PUT', '/api/twilio-settings/', { token: tenant.token, body: { auth_token: 'w'.repeat(32) } });
  await stack.request('POST', '/api/twilio-settings/verify', { token: tenant.token });
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#announcer', 'does not accept the credentials');
  await page.evaluate(() => {
    window.said = [];
    new MutationObserver(() => window.said.push(document.querySelector('#announcer').textContent)).observe(
      document.querySelector('#announcer'),
      { childList: true },
    );
  });
  await lookAgain(page);
  await lookAgain(page);
  assert.deepEqual(await page.evaluate(() => window.said), []);
  await shows(page, '#account-notice', 'does not accept the credentials');

  await stack.request('PUT', '/api/twilio-settings/', { token: tenant.token, body: { auth_token: tenant.secret } });
  await stack.request('POST', '/api/twilio-settings/verify', { token: tenant.token });
  await lookAgain(page);
  await page.locator('#account-notice').waitFor({ state: 'hidden' });
});

test('by keyboard alone: sign in, configure, verify, delete', async (t) => {
  const tenant = await stack.newTenant({ numbers: NUMBERS });
  const page = await openPage(t, browser, stack, null);
  await shows(page, '#sign-in-reason', 'Sign in in the app first');
  await assertAccessible(page, 'signed out');
  const tabTo = async (id) => {
    for (let presses = 0; presses < 40; presses += 1) {
      await page.keyboard.press('Tab');
      if ((await page.evaluate(() => document.activeElement.id)) === id) return;
    }
    assert.fail(`${id} is not reached by Tab`);
  };
  const type = async (id, text) => {
    await tabTo(id);
    await page.keyboard.type(text);
  };
  await type('token', 'no token');
  await page.keyboard.press('Enter');
  await shows(page, '#token-error', 'three parts');
  await page.keyboard.press('Control+a');
  await page.keyboard.type(tenant.token);
  await page.keyboard.press('Enter');
  await shows(page, '#status', 'Not configured');
  await type('account_sid', tenant.sid);
  await type('auth_token', tenant.secret);
  await tabTo('voice_enabled');
  await page.keyboard.press('Space');
  await page.keyboard.press('Enter');
  await saved(page);
  await tabTo('verify');
  await page.keyboard.press('Space');
  await shows(page, '#status', 'Verified');
  assert.equal((await stored(tenant)).voice_enabled, false);
  await shows(page, '#numbers-list', 'Reception');

  await tabTo('delete');
  await page.keyboard.press('Enter');
  await shows(page, 'dialog', 'Delete these settings?');
  await assertAccessible(page, 'the dialog');
  assert.equal(await page.evaluate(() => document.activeElement.value), 'cancel');
  await page.keyboard.press('Escape');
  await page.locator('dialog').waitFor({ state: 'hidden' });
  assert.equal(await page.evaluate(() => document.activeElement.id), 'delete');
  assert.equal((await stored(tenant)).account_sid, tenant.sid);
  await page.keyboard.press('Enter');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await shows(page, '#status', 'Not configured');
  await shows(page, '#account-notice', 'Settings deleted.');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'account_sid');
  assert.equal((await stored(tenant)).message, 'Settings not found');
});

test('a token that names no user, or is none of ours, is told so', async (t) => {
  const page = await openPage(t, browser, stack, stack.token(undefined));
  await shows(page, '#account-notice', 'No Twilio user is known.');
  await shows(page, '#status', 'Not available');
  const forged = await openPage(t, browser, stack, mint('x'.repeat(40), { sub: 'x', role: 'twilio_user' }));
  await shows(forged, '#sign-in-reason', 'The server does not accept this token.');
});

test('the page may load and run nothing but its own files', async () => {
  const answer = await stack.request('GET', '/twilio-settings');
  const policy = answer.headers.get('content-security-policy');
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe|\*|https?:/);
  assert.equal(answer.headers.get('content-type'), 'text/html; charset=utf-8');
  assert.doesNotMatch(answer.text, /<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=/);
});

test("where the system's colours are forced, a switch still shows whether it is on", async (t) => {
  const page = await openPage(t, browser, stack, (await stack.newTenant()).token, { forcedColors: 'active' });
  await shows(page, '#status', 'Not configured');
  const pictures = [];
  for (const on of [true, false]) {
    await page.getByRole('switch', { name: 'SMS' }).setChecked(on);
    await page.mouse.move(0, 0);
    await page.evaluate(() => document.activeElement.blur());
    pictures.push((await page.locator('#sms_enabled').screenshot()).toString('base64'));
  }
  assert.notEqual(pictures[0], pictures[1]);
  await assertAccessible(page, 'forced colours');
});

test('on a phone long names without a space are broken', async (t) => {
  const name = 'sunshine_dental_clinics_production_subaccount_for_reminders_west';
  const tenant = await stack.configuredTenant({ account: { friendly_name: name } });
  const sent = { to_number: `messenger:${'7'.repeat(60)}`, body: 'Hello' };
  const { status } = await stack.request('POST', '/api/twilio_messages', { token: tenant.token, body: sent });
  assert.equal(status, 201);
  const page = await openPage(t, browser, stack, tenant.token, { viewport: PHONE });
  await shows(page, '#facts', name);
  await shows(page, '#messages-list', sent.to_number);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), PHONE.width);
});

test('a phone 360 pixels wide, dark: nothing overflows, nothing is hard to read', async (t) => {
  const tenant = await stack.configuredTenant({ account: { numbers: NUMBERS } });
  const page = await openPage(t, browser, stack, tenant.token, {
    viewport: PHONE,
    colorScheme: 'dark',
    hasTouch: true,
  });
  await shows(page, '#numbers-list', 'Reception');
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), PHONE.width);
  await assertAccessible(page, 'dark');
  const small = await page
    .locator('button:visible, select:visible, input:visible')
    .evaluateAll((all) => all.filter((one) => one.getBoundingClientRect().height < 24).map((one) => one.outerHTML));
  assert.deepEqual(small, []);
});

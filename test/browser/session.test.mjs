// Sessions that end, users that change, windows side by side.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { checkout, startStack, until } from '../rest/stack.mjs';
import { expire, openPage, shows, startBrowser } from './browser.mjs';
import { lookAgain } from './settings.mjs';

const stack = await startStack();
const browser = await startBrowser();
after(async () => {
  await browser.close();
  await stack.stop();
});

const stored = (tenant) =>
  stack.request('GET', '/api/twilio-settings/', { token: tenant.token }).then(({ json }) => json);

// Has the page read the settings anew, and keeps the answer back. Returns, once it is there, what lets it go.
async function holdAnswer(page) {
  let release;
  const released = new Promise((resolve) => {
    release = resolve;
  });
  const read = new Promise((resolve) => {
    page.route(
      '**/api/twilio-settings/',
      async (route) => {
        const response = await route.fetch();
        resolve();
        await released;
        await route.fulfill({ response });
      },
      { times: 1 },
    );
  });
  await page.evaluate(() => new BroadcastChannel('twilio-settings').postMessage('changed'));
  await read;
  return release;
}

test('the token comes from sessionStorage as the app left it, or once from the address', async (t) => {
  const tenant = await stack.configuredTenant();
  const page = await openPage(t, browser, stack, null);
  await shows(page, '#sign-in', 'Sign in');
  await page.evaluate((token) => sessionStorage.setItem('twilio.jwt', token), tenant.token);
  await page.reload();
  await shows(page, '#status', 'Verified');
  const other = await stack.newTenant();
  await page.goto(`${stack.url}/twilio-settings#token=${other.token}`);
  await shows(page, '#status', 'Not configured');
  assert.equal(page.url(), `${stack.url}/twilio-settings`);
  assert.equal(await page.getByLabel('Account SID').inputValue(), '');
});

test('a session that ends asks to sign in again and keeps what was typed', async (t) => {
  const tenant = await stack.configuredTenant();
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#status', 'Verified');
  await page.getByRole('switch', { name: 'Voice' }).uncheck();
  await expire(page, stack, tenant.user);
  await shows(page, '#sign-in-reason', 'Your session has ended.');
  assert.equal(await page.locator('#workspace').isVisible(), false);
  assert.equal(await page.evaluate(() => sessionStorage.getItem('twilio.jwt')), null);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'sign-in-title');
  await page.getByLabel('Token', { exact: true }).fill(tenant.token);
  await page.getByRole('button', { name: 'Continue' }).click();
  await shows(page, '#status', 'Verified');
  assert.equal(await page.getByRole('switch', { name: 'Voice' }).isChecked(), false);
  await page.getByRole('button', { name: 'Save Settings' }).click();
  await shows(page, '#account-notice', 'Settings saved.');
  assert.equal((await stored(tenant)).voice_enabled, false);
});

test('a session that ends while Twilio is asked: the status says so, too', async (t) => {
  const tenant = await stack.configuredTenant();
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#status', 'Verified');
  const ended = { code: 'PGRST301', message: 'JWT expired', details: null, hint: null };
  await page.route('**/api/twilio-settings/verify', (route) => route.fulfill({ status: 401, json: ended }));
  await page.getByRole('button', { name: 'Verify Credentials' }).click();
  await shows(page, '#sign-in-reason', 'Your session has ended.');
  await page.locator('#verify:not([aria-busy])').waitFor({ state: 'attached' });
  assert.equal(await page.locator('#status').innerText(), 'Signed out');
});

test('where the browser keeps nothing for the page, the token lasts as long as it is open', async (t) => {
  const tenant = await stack.configuredTenant();
  const page = await openPage(t, browser, stack, null);
  await page.addInitScript(() => {
    Object.defineProperty(window, 'sessionStorage', {
      get() {
        throw new DOMException('Access is denied.', 'SecurityError');
      },
    });
  });
  await page.goto(`${stack.url}/twilio-settings?#token=${tenant.token}`);
  await shows(page, '#status', 'Verified');
  assert.equal(new URL(page.url()).hash, '');
  await page.reload();
  await shows(page, '#sign-in-reason', 'Sign in in the app first');
  await page.getByLabel('Token', { exact: true }).fill(tenant.token);
  await page.getByRole('button', { name: 'Continue' }).click();
  await shows(page, '#status', 'Verified');
});

test('signing in as somebody else shows nothing of the one before', async (t) => {
  const tenant = await stack.configuredTenant({
    account: { numbers: [{ phone_number: '+15005550006', friendly_name: 'Reception' }] },
  });
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#numbers-list', 'Reception');
  await page.getByLabel('Account SID').fill('typed by the first user');
  await page.getByLabel('To', { exact: true }).fill('+15558675310');
  await page.getByLabel('Message', { exact: true }).fill('a text of the first user');
  await page.getByRole('button', { name: 'Delete …' }).click();
  await expire(page, stack, tenant.user);
  await shows(page, '#sign-in-reason', 'Your session has ended.');
  assert.equal(await page.locator('dialog').isVisible(), false);
  await page.getByLabel('Token', { exact: true }).fill((await stack.newTenant()).token);
  await page.getByRole('button', { name: 'Continue' }).click();
  await shows(page, '#status', 'Not configured');
  const text = await page.evaluate(
    () => document.body.innerText +
      [...document.querySelectorAll('input, textarea')].map((field) => field.value).join(),
  );
  for (const secret of [
    tenant.sid,
    'Reception',
    tenant.number,
    'typed by the first user',
    '+15558675310',
    'a text of the first user',
  ])
    assert.ok(!text.includes(secret), secret);
});

test('an answer that comes when somebody else has signed in meanwhile shows nothing', async (t) => {
  const tenant = await stack.configuredTenant();
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#status', 'Verified');
  const release = await holdAnswer(page);
  await expire(page, stack, tenant.user);
  await shows(page, '#sign-in-reason', 'Your session has ended.');
  await page.getByLabel('Token', { exact: true }).fill((await stack.newTenant()).token);
  await page.getByRole('button', { name: 'Continue' }).click();
  await shows(page, '#status', 'Not configured');
  const late = page.waitForResponse('**/api/twilio-settings/');
  release();
  await (await late).finished();
  await page.evaluate(() => fetch('/twilio-settings/icon.svg'));
  assert.equal(await page.getByLabel('Account SID').inputValue(), '');
  assert.equal(await page.locator('#status').innerText(), 'Not configured');
});

test('in a frame of the app: whoever signs in there is whose data the page shows', async (t) => {
  const tenant = await stack.configuredTenant();
  const other = await stack.newTenant();
  const page = await openPage(t, browser, stack, null, { path: '/api/' });
  await page.evaluate((token) => {
    sessionStorage.setItem('twilio.jwt', token);
    document.body.replaceChildren(Object.assign(document.createElement('iframe'), { src: '/twilio-settings' }));
  }, tenant.token);
  const frame = page.frameLocator('iframe');
  const status = (text) => frame.locator('#status', { hasText: text }).waitFor();
  await status('Verified');
  await frame.getByLabel('Message', { exact: true }).fill('a text of the first user');
  await frame.getByLabel('Account SID').fill('typed by the first user');

  await page.evaluate((token) => sessionStorage.setItem('twilio.jwt', token), other.token);
  await status('Not configured');
  assert.deepEqual(
    [await frame.locator('#account_sid').inputValue(), await frame.locator('#body').inputValue()],
    ['', ''],
  );
  await page.evaluate(() => sessionStorage.removeItem('twilio.jwt'));
  await status('Signed out');
  await page.evaluate((token) => sessionStorage.setItem('twilio.jwt', token), tenant.token);
  await status('Verified');
});

test('two windows: what one saves the other shows, and neither undoes the other', async (t) => {
  const tenant = await stack.configuredTenant();
  const one = await openPage(t, browser, stack, tenant.token);
  await shows(one, '#status', 'Verified');
  const two = await one.context().newPage();
  await two.goto(`${stack.url}/twilio-settings#token=${tenant.token}`);
  await shows(two, '#status', 'Verified');

  await two.locator('#sms_enabled').uncheck();
  await one.locator('#voice_enabled').uncheck();
  await one.getByRole('button', { name: 'Save Settings' }).click();
  await shows(one, '#account-notice', 'Settings saved.');
  await two.locator('#voice_enabled:not(:checked)').waitFor();
  assert.equal(await two.locator('#sms_enabled').isChecked(), false);
  await two.getByRole('button', { name: 'Save Settings' }).click();
  await shows(two, '#account-notice', 'Settings saved.');
  await one.locator('#sms_enabled:not(:checked)').waitFor();
  const { sms_enabled, voice_enabled } = await stored(tenant);
  assert.deepEqual([sms_enabled, voice_enabled], [false, false]);

  await two.getByRole('button', { name: 'Delete …' }).click();
  await two.getByRole('button', { name: 'Delete settings' }).click();
  await shows(two, '#status', 'Not configured');
  await shows(one, '#status', 'Not configured');
});

test('an answer from before a change, which comes after it, does not undo it', async (t) => {
  const tenant = await stack.configuredTenant();
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#status', 'Verified');
  const release = await holdAnswer(page);
  await page.getByRole('switch', { name: 'SMS' }).uncheck();
  await page.getByRole('button', { name: 'Save Settings' }).click();
  await shows(page, '#account-notice', 'Settings saved.');
  const late = page.waitForResponse('**/api/twilio-settings/');
  release();
  await (await late).finished();
  await page.evaluate(() => fetch('/twilio-settings/icon.svg'));
  assert.equal(await page.getByRole('switch', { name: 'SMS' }).isChecked(), false);
});

test('a window in which nobody has signed in does not care what is saved in another', async (t) => {
  const tenant = await stack.configuredTenant();
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#status', 'Verified');
  const other = await page.context().newPage();
  await other.goto(`${stack.url}/twilio-settings`);
  await shows(other, '#sign-in-reason', 'Sign in in the app first');
  await other.getByLabel('Token', { exact: true }).fill('half a tok');
  const asked = [];
  other.on('request', (request) => asked.push(request.url()));
  await other.evaluate(() => {
    new BroadcastChannel('twilio-settings').addEventListener('message', () => (window.told = true));
  });
  await page.getByRole('switch', { name: 'Voice' }).uncheck();
  await page.getByRole('button', { name: 'Save Settings' }).click();
  await shows(page, '#account-notice', 'Settings saved.');
  await other.waitForFunction(() => window.told);
  await other.evaluate(() => fetch('/twilio-settings/icon.svg'));
  assert.deepEqual(asked, [`${stack.url}/twilio-settings/icon.svg`]);
  assert.match(await other.locator('#sign-in-reason').innerText(), /^Sign in in the app first/);
  assert.equal(await other.evaluate(() => document.activeElement.id), 'token');
});

test("a window that missed what happened learns it from the server's answer", async (t) => {
  const tenant = await stack.newTenant();
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#status', 'Not configured');
  const account = { account_sid: tenant.sid, auth_token: tenant.secret };
  await stack.request('POST', '/api/twilio-settings/', { token: tenant.token, body: account });
  await page.getByLabel('Account SID').fill(tenant.sid);
  await page.getByLabel('Auth Token').fill(tenant.secret);
  await page.getByRole('button', { name: 'Save Settings' }).click();
  await shows(page, '#account-notice', 'A user has one Twilio account.');
  await shows(page, '#status', 'Not verified');
  await page.getByRole('button', { name: 'Save Settings' }).click();
  await shows(page, '#account-notice', 'Settings saved.');

  await stack.request('DELETE', '/api/twilio-settings/', { token: tenant.token });
  await page.locator('#sms_enabled').uncheck();
  await page.getByRole('button', { name: 'Save Settings' }).click();
  await shows(page, '#account-notice', 'No Twilio account is configured');
  await shows(page, '#status', 'Not configured');

  await stack.request('POST', '/api/twilio-settings/', { token: tenant.token, body: account });
  await lookAgain(page);
  await shows(page, '#status', 'Not verified');
  await stack.request('DELETE', '/api/twilio-settings/', { token: tenant.token });
  await page.getByRole('button', { name: 'Delete …' }).click();
  await page.getByRole('button', { name: 'Delete settings' }).click();
  await shows(page, '#account-notice', 'No Twilio account is configured');
  await shows(page, '#status', 'Not configured');
});

test('an answer that is none, such as the page of a proxy, is told and takes nothing away', async (t) => {
  const tenant = await stack.configuredTenant();
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#status', 'Verified');
  await page.route('**/api/**', (route) => route.fulfill({ contentType: 'text/html', body: '<p>Welcome to our Wi-Fi' }));
  await page.evaluate(() => new BroadcastChannel('twilio-settings').postMessage('changed'));
  const told = "The server's answer cannot be read. Try again; if it lasts, something stands between you and the server.";
  await shows(page, '#account-notice', told);
  await shows(page, '#messages-state', told);
  await shows(page, '#status', 'Verified');
  assert.equal(await page.getByLabel('Account SID').inputValue(), tenant.sid);
  await page.unrouteAll();
  await page.waitForFunction(() => document.querySelector('#messages-state').textContent === '');
  await page.evaluate(() => new BroadcastChannel('twilio-settings').postMessage('changed'));
  await page.locator('#account-notice').waitFor({ state: 'hidden' });
});

test('without a database the page says so, and nothing that is for developers', async (t) => {
  const tenant = await stack.configuredTenant();
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#status', 'Verified');
  const answer = {
    code: 'PGRST000',
    message: 'Database connection error. Retrying the connection.',
    details: 'connection to server at "10.0.0.5", port 5432 failed: Connection refused',
    hint: null,
  };
  await page.route('**/api/twilio-settings/', (route) => route.fulfill({ status: 503, json: answer }));
  await page.evaluate(() => new BroadcastChannel('twilio-settings').postMessage('changed'));
  await shows(page, '#account-notice', 'Database connection error. Retrying the connection.');
  assert.doesNotMatch(await page.locator('#account-notice').innerText(), /10\.0\.0\.5/);
});

test('what nginx answers is said without the names of programs', async (t) => {
  const tenant = await stack.configuredTenant();
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#status', 'Verified');
  const conf = readFileSync(join(checkout, 'deploy/nginx.conf'), 'utf8');
  await page.locator('#sms_enabled').uncheck();
  for (const [status, told] of [
    [502, 'The server is not available at the moment. Try again in a minute.'],
    [504, 'The server takes too long. It may be done yet: look first.'],
  ]) {
    const [, body] = new RegExp(`return ${status} '(.*)';`).exec(conf);
    await page.route('**/api/**', (route) => route.fulfill({ status, body, contentType: 'application/json' }));
    await page.getByRole('button', { name: 'Save Settings' }).click();
    await shows(page, '#account-notice', told);
    await shows(page, '#messages-state', told);
    await page.unrouteAll();
  }
});

test('settings that could not be read are not taken for none, and are read again', async (t) => {
  const tenant = await stack.configuredTenant();
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#status', 'Verified');
  const answer = { code: 'PGRST000', message: 'Database connection error. Retrying the connection.' };
  await page.route('**/api/twilio-settings/', (route) => route.fulfill({ status: 503, json: answer }), { times: 1 });
  await page.reload();
  await shows(page, '#status', 'Not available');
  for (const part of ['#send', '#numbers']) assert.equal(await page.locator(part).isVisible(), false, part);
  await shows(page, '#status', 'Verified');
  for (const part of ['#send', '#numbers']) await page.locator(part).waitFor();
});

test('no connection: the page says so and goes on when it is back', async (t) => {
  const tenant = await stack.configuredTenant();
  const page = await openPage(t, browser, stack, tenant.token);
  await shows(page, '#status', 'Verified');
  await page.route('**/api/**', (route) => route.abort(), { times: 1 });
  await page.context().setOffline(true);
  await page.locator('#sms_enabled').uncheck();
  await page.getByRole('button', { name: 'Save Settings' }).click();
  await shows(page, '#account-notice', 'The server cannot be reached. Check your connection and try again.');
  await page.context().setOffline(false);
  await page.unrouteAll();
  await page.getByRole('button', { name: 'Save Settings' }).click();
  await shows(page, '#account-notice', 'Settings saved.');
});

test('while it cannot be seen the page asks for nothing; then it looks at once, and goes on by itself', async (t) => {
  const tenant = await stack.configuredTenant();
  const page = await openPage(t, browser, stack, null);
  await page.clock.install();
  const underWay = new Set();
  page.on('request', (request) => underWay.add(request));
  for (const end of ['requestfinished', 'requestfailed']) page.on(end, (request) => underWay.delete(request));
  await page.goto(`${stack.url}/twilio-settings?#token=${tenant.token}`);
  await shows(page, '#status', 'Verified');
  await page.locator('#chart svg').waitFor();
  const see = (seen) =>
    page.evaluate((hidden) => {
      Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    }, !seen);
  const looked = () =>
    Promise.all(['twilio-settings/', 'twilio_messages?*'].map((path) => page.waitForResponse(`**/api/${path}`)));
  await see(false);
  await page.clock.runFor(5000); // what it had in mind before
  await until('that is over', () => underWay.size === 0);
  await page.evaluate(() => fetch('/twilio-settings/icon.svg'));
  const asked = [];
  page.on('request', (request) => asked.push(new URL(request.url()).pathname));
  await page.clock.runFor(120_000);
  await page.evaluate(() => fetch('/twilio-settings/icon.svg'));
  assert.deepEqual(asked, ['/twilio-settings/icon.svg']);
  await Promise.all([looked(), see(true)]);
  await Promise.all([looked(), page.clock.runFor(60_000)]);
});

// What tests of the settings on the page share.

import { shows } from './browser.mjs';

export const NUMBERS = [
  { phone_number: '+15005550006', friendly_name: 'Reception' },
  { phone_number: '+15005550010', friendly_name: 'Dr Ellis', capabilities: { mms: false } },
  { phone_number: '+442071838750', capabilities: { sms: false, mms: false } },
];
export const storedOf = (stack) => (tenant) =>
  stack.request('GET', '/api/twilio-settings/', { token: tenant.token }).then(({ json }) => json);
export const saved = (page) => shows(page, '#account-notice', 'Settings saved.');

// Has the page read the settings anew, as when another window changed them, and waits until it has shown them.
export async function lookAgain(page) {
  const read = page.waitForResponse('**/api/twilio-settings/');
  await page.evaluate(() => new BroadcastChannel('twilio-settings').postMessage('changed'));
  await (await read).finished();
  await page.evaluate(() => fetch('/twilio-settings/icon.svg'));
}

export async function configure(page, tenant) {
  await page.getByLabel('Account SID').fill(tenant.sid);
  await page.getByLabel('Auth Token').fill(tenant.secret);
  await page.getByRole('button', { name: 'Save Settings' }).click();
  await saved(page);
}

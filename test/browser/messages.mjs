// What tests of messages on the page share.

import { openPage, shows } from './browser.mjs';

export const NUMBERS = [
  { phone_number: '+15005550006', friendly_name: 'Reception' },
  { phone_number: '+15005550010', friendly_name: 'Dr Ellis' },
  { phone_number: '+442071838750', friendly_name: 'London', capabilities: { sms: false, mms: false } },
];
export const item = (page, text) => page.locator('#messages-list > li').filter({ hasText: text });

// Opens the page of a new tenant whose account is verified: (t, options of the tenant, options of the page).
export const verifiedPages =
  (browser, stack) =>
  async (t, options = {}, page = {}) => {
    const tenant = await stack.configuredTenant({ account: { numbers: NUMBERS }, ...options });
    const opened = await openPage(t, browser, stack, tenant.token, page);
    await shows(opened, '#status', 'Verified');
    return { tenant, page: opened };
  };

export async function write(page, to, body) {
  await page.getByLabel('To', { exact: true }).fill(to);
  await page.getByLabel('Message', { exact: true }).fill(body);
}

// Debian's Chromium for the tests of the page, through Playwright.

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import { AxeBuilder } from '@axe-core/playwright';

const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
export const DESKTOP = { width: 1200, height: 900 };
export const PHONE = { width: 360, height: 740 };

export const startBrowser = () => chromium.launch({ executablePath: '/usr/bin/chromium', args: ARGUMENTS });

// A window of its own, signed in with the token as the app would do it. What the page complains of fails the test.
export async function openPage(
  t,
  browser,
  stack,
  token,
  { viewport = DESKTOP, path = '/twilio-settings', ...options } = {},
) {
  const context = await browser.newContext({
    viewport,
    locale: 'en-GB',
    timezoneId: 'Europe/Berlin',
    reducedMotion: 'reduce',
    ...options,
  });
  const complaints = [];
  context.on('page', (page) => {
    page.setDefaultTimeout(20_000);
    page.on('pageerror', (error) => complaints.push(error.stack));
    page.on('console', (message) => {
      // Chromium also writes down each request that was refused, which the page shows to the user.
      if (['error', 'warning'].includes(message.type()) && !/^Failed to load resource/.test(message.text()))
        complaints.push(message.text());
    });
  });
  const page = await context.newPage();
  t.after(async () => {
    await context.close();
    assert.deepEqual(complaints, [], 'the console is empty');
  });
  await page.goto(stack.url + path + (token ? `#token=${token}` : ''));
  return page;
}

// Fails on whatever axe-core calls serious or critical.
export async function assertAccessible(page, where) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  const grave = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  assert.deepEqual(
    grave.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(' | ')}`),
    [],
    where,
  );
}

// Lets the session end: puts a token there that expired a while ago (PostgREST allows clocks to differ by 30 s).
export const expire = (page, stack, user) =>
  page.evaluate((token) => sessionStorage.setItem('twilio.jwt', token), stack.token(user, { exp: 1 }));

// Waits until an element shows a text.
export async function shows(page, selector, text) {
  await page.locator(selector).filter({ hasText: text, visible: true }).first().waitFor();
}

// The pictures in the README.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { checkout, startStack } from '../rest/stack.mjs';
import { PHONE, assertAccessible, openPage, shows, startBrowser } from './browser.mjs';
import { item, verifiedPages, write } from './messages.mjs';

const stack = await startStack();
const browser = await startBrowser();
after(async () => {
  await browser.close();
  await stack.stop();
});
const openVerified = verifiedPages(browser, stack);

// A fortnight of a dentist's messages, written as history: the table's owner may.
async function writeHistory(tenant) {
  const texts = [
    ['+15558675310', 'Reminder: your check-up is tomorrow at 10:30. Reply C to confirm.'],
    ['+15558675324', 'Your crown has arrived. Call us to find a date.'],
    ['+447700900123', 'Dr Ellis is ill today. May we move you to Thursday, 9:00?'],
  ];
  const row = (
    day,
    n,
    direction,
    status,
    body,
    [from, to],
    error = 'NULL, NULL',
  ) => `('${tenant.user}', '${direction}', '${from}', '${to}', '${body}', '${status}', ${error}, 1,
    date_trunc('day', now()) - interval '${day} days' + interval '${7 + (n % 3)} hours' + interval '${n * 7} minutes')`;
  const rows = [];
  for (let day = 13; day >= 1; day -= 1) {
    const busyness = [9, 14, 12, 16, 7, 3, 2][day % 7];
    for (let n = 0; n < busyness; n += 1)
      rows.push(row(day, n, 'outbound', 'delivered', texts[n % 3][1], [tenant.number, texts[n % 3][0]]));
    for (let n = 0; n < busyness / 3; n += 1)
      rows.push(row(day, n, 'inbound', 'received', 'C', [texts[n % 3][0], tenant.number]));
    if (day % 4 === 0)
      rows.push(
        row(
          day,
          1,
          'outbound',
          'undelivered',
          texts[1][1],
          [tenant.number, texts[1][0]],
          `30003, 'Unreachable destination handset'`,
        ),
      );
  }
  await stack.sql(
    `SET row_security = off; INSERT INTO twilio_messages (user_id, direction, from_number, to_number, body, status, error_code, error_message, num_segments, created_at) VALUES ${rows.join(',\n')}`,
  );
}

test('pictures of the page on a desktop and on a phone', async (t) => {
  const { tenant, page } = await openVerified(t, { settings: { phone_number: '+15005550006' } });
  await writeHistory(tenant);
  await stack.twilio('POST', 'fates', {
    match: { account: tenant.sid, to: '+15558675324' },
    status: 'undelivered',
    error_code: 30003,
  });
  for (const [to, body] of [
    ['+15558675324', 'Your crown has arrived. Call us to find a date.'],
    ['+15558675310', 'Reminder: your check-up is tomorrow at 10:30. Reply C to confirm.'],
  ]) {
    await write(page, to, body);
    await page.getByRole('button', { name: 'Send', exact: true }).click();
    await item(page, body)
      .filter({ hasText: /Delivered|Not delivered/ })
      .first()
      .waitFor();
  }
  await stack.twilio('POST', 'inbound', {
    account: tenant.sid,
    from: '+15558675310',
    to: '+15005550006',
    body: 'C – see you tomorrow!',
    url: `${stack.publicUrl}/twilio/webhook`,
    send: true,
  });
  await item(page, 'see you tomorrow').waitFor();
  await write(page, '+15558675324', 'We could not reach you. Please call us back.');
  // PICTURES=1 renews those in the repository.
  const images = join(checkout, process.env.PICTURES ? 'docs/images' : 'build/check/pictures');
  mkdirSync(images, { recursive: true });
  await page.setViewportSize({ width: 1200, height: 1230 });
  await page.evaluate(() => {
    document.activeElement.blur();
    document.querySelector('#send-notice').hidden = true;
    scrollTo(0, 0);
  });
  await page.screenshot({ path: join(images, 'settings-desktop.png') });
  await assertAccessible(page, 'full, light');

  const phone = await openPage(t, browser, stack, tenant.token, {
    viewport: PHONE,
    deviceScaleFactor: 2,
    colorScheme: 'dark',
    hasTouch: true,
    isMobile: true,
  });
  await item(phone, 'see you tomorrow').waitFor();
  await shows(phone, '#numbers-list', 'Reception');
  assert.equal(await phone.evaluate(() => document.documentElement.scrollWidth), PHONE.width);
  await phone.screenshot({ path: join(images, 'settings-phone.png') });
  await assertAccessible(phone, 'full, dark, phone');
});

// The account's phone numbers: as last listed by Twilio, and asked for again when the user wants that.

import { get, getRows, post, Refusal } from './api.js';
import { $, announce, busy, make } from './page.js';

let known = [];
let owner = ''; // the user whose they are: an administrator may read those of all
const followers = [];

export const list = () => known;
export function onNumbers(follower) {
  followers.push(follower);
}

const capabilities = (number) =>
  [
    ['sms', 'SMS'],
    ['mms', 'MMS'],
    ['voice', 'Voice'],
  ]
    .filter(([name]) => number[name])
    .map(([, text]) => text);

export function label(number) {
  const named = number.friendly_name && number.friendly_name !== number.phone_number;
  return named ? `${number.phone_number} (${number.friendly_name})` : number.phone_number;
}

function item(number) {
  const abilities = capabilities(number);
  return make(
    'li',
    '',
    make(
      'div',
      'number',
      make('strong', '', number.phone_number),
      make('span', '', number.friendly_name !== number.phone_number ? (number.friendly_name ?? '') : ''),
    ),
    make('ul', 'badges', ...(abilities.length ? abilities : ['No capabilities']).map((text) => make('li', '', text))),
  );
}

function show(numbers, empty) {
  known = numbers;
  $('numbers-list').replaceChildren(...numbers.map(item));
  // A long list scrolls by itself, so it can be reached by keyboard.
  $('numbers-region').tabIndex = numbers.length > 5 ? 0 : -1;
  // A button that goes away must not take the focus to the top of the page.
  const focused = $('numbers-receive').contains(document.activeElement);
  $('numbers-receive').hidden = numbers.every((number) => !number.sms || number.twilio_reports_here);
  if (focused && $('numbers-receive').hidden) $('numbers-title').focus();
  $('numbers-empty').textContent = empty;
  $('numbers-empty').hidden = numbers.length > 0;
  for (const follower of followers) follower(numbers);
}

export function forget() {
  show([], 'They are listed here once the credentials are verified.');
}

function failed(error, what = 'The list could not be fetched.') {
  if (!(error instanceof Refusal)) throw error;
  if (error.status === 401) return;
  show(known, `${what} ${error.sentence}`);
  $('numbers-empty').hidden = false;
  announce($('numbers-empty').textContent);
}

const listed = () =>
  getRows(
    `twilio_numbers?select=phone_number,friendly_name,sid,sms,mms,voice,is_default,twilio_reports_here&user_id=eq.${owner}&order=phone_number`,
  );

// Asks Twilio.
export const refresh = () =>
  busy($('refresh-numbers'), 'Refreshing …', async () => {
    try {
      await get('twilio-settings/phone-numbers');
      show(await listed(), 'This Twilio account has no phone number yet.');
      announce(`${known.length} phone ${known.length === 1 ? 'number' : 'numbers'} listed.`);
    } catch (error) {
      failed(error);
    }
  });

// Shows what was listed last time, or asks Twilio where nothing was.
export async function load(settings) {
  owner = settings?.user_id;
  $('refresh-numbers').hidden = !settings?.is_verified;
  if (!settings?.is_verified) {
    forget();
    return;
  }
  try {
    const numbers = await listed();
    if (numbers.length > 0) show(numbers, '');
    else await refresh();
  } catch (error) {
    failed(error);
  }
}

// The order goes out when the request is done; Twilio's answer is seen a moment later.
async function receive() {
  try {
    const ordered = await post('rpc/twilio_configure_webhooks');
    announce(`${ordered} ${ordered === 1 ? 'number is' : 'numbers are'} told to report to this app.`);
    await new Promise((resolve) => {
      setTimeout(resolve, 1500);
    });
    await refresh();
  } catch (error) {
    failed(error, 'Twilio was not told.');
  }
}

$('numbers-title').tabIndex = -1;
$('receive').addEventListener('click', () => busy($('receive'), 'Asking Twilio …', receive));
$('refresh-numbers').addEventListener('click', refresh);

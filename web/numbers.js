// The account's phone numbers: as last listed by Twilio, and asked for again when the user wants that.

import { get, Refusal } from './api.js';
import { $, announce, busy, make } from './page.js';

let known = [];
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
  $('numbers-empty').textContent = empty;
  $('numbers-empty').hidden = numbers.length > 0;
  for (const follower of followers) follower(numbers);
}

export function forget() {
  show([], 'They are listed here once the credentials are verified.');
}

function failed(error) {
  if (!(error instanceof Refusal)) throw error;
  if (error.status === 401) return;
  show(known, '');
  $('numbers-empty').hidden = false;
  $('numbers-empty').textContent = `The list could not be fetched. ${error.sentence}`;
}

// Asks Twilio.
export const refresh = () =>
  busy($('refresh-numbers'), 'Refreshing …', async () => {
    try {
      show(await get('twilio-settings/phone-numbers'), 'This Twilio account has no phone number yet.');
      announce(`${known.length} phone ${known.length === 1 ? 'number' : 'numbers'} listed.`);
    } catch (error) {
      failed(error);
    }
  });

// Shows what was listed last time, or asks Twilio where nothing was.
export async function load(settings) {
  $('refresh-numbers').hidden = !settings?.is_verified;
  if (!settings?.is_verified) {
    forget();
    return;
  }
  try {
    const numbers = await get('twilio_numbers?select=phone_number,friendly_name,sid,sms,mms,voice&order=phone_number');
    if (numbers.length > 0) show(numbers, '');
    else await refresh();
  } catch (error) {
    failed(error);
  }
}

$('refresh-numbers').addEventListener('click', refresh);

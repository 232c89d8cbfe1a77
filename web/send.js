// Sending a message. Each message has a key of its own, so that a second click, or a second try after an answer that got
// lost, does not send it twice.

import { post, Refusal } from './api.js';
import * as account from './account.js';
import * as messages from './messages.js';
import * as numbers from './numbers.js';
import { $, busy, clearErrors, fieldError, notice, plainNumber } from './page.js';
import { segments } from './segments.js';

const form = $('send-form');
const newKey = () =>
  `page-${[...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('')}`;
let key = newKey();

function count() {
  const { encoding, units, segments: number, culprit } = segments($('body').value);
  if (units === 0) {
    $('segments').textContent = 'Up to 160 characters are one segment; Twilio bills each segment.';
    return;
  }
  const parts = [
    `${units} ${units === 1 ? 'character' : 'characters'}`,
    `${number} ${number === 1 ? 'segment' : 'segments'}`,
    encoding,
  ];
  if (culprit) parts.push(`because of “${culprit}”`);
  $('segments').textContent = parts.join(' · ');
}

// What the server takes where a message names no sender.
function usualSender() {
  const { messaging_service_sid: service, phone_number: own } = account.settings() ?? {};
  const number = numbers.list().find((one) => one.is_default)?.phone_number ?? own;
  if (service) return 'Messaging Service';
  return number ? `Usual number (${number})` : 'None chosen yet';
}

function offerSenders() {
  const chosen = $('from_number').value;
  const senders = numbers.list().filter((number) => number.sms);
  $('from_number').replaceChildren(
    new Option(usualSender(), ''),
    ...senders.map((number) => new Option(numbers.label(number), number.phone_number)),
  );
  $('from_number').value = senders.some((number) => number.phone_number === chosen) ? chosen : '';
}

// The form is there once something can be sent; until then a sentence says what is missing.
function openOrClose(settings) {
  const missing = !settings
    ? 'Save the settings of your Twilio account first.'
    : !settings.is_active
      ? 'This account is switched off.'
      : !settings.sms_enabled
        ? 'SMS is switched off in the settings.'
        : !settings.is_verified
          ? 'Verify the credentials first.'
          : '';
  $('send-closed').textContent = missing;
  $('send-closed').hidden = !missing;
  form.hidden = Boolean(missing);
}

// The field that a refusal is about: the server names it in its message.
function fieldOf(refusal) {
  if (![400, 409].includes(refusal.status)) return null;
  return (
    [
      [/recipient/, 'to_number'],
      [/sender/, 'from_number'],
      [/body|message is empty/, 'body'],
    ].find(([pattern]) => pattern.test(refusal.message))?.[1] ?? null
  );
}

async function send() {
  clearErrors(form);
  notice('send-notice', 'good', '');
  const body = $('body').value;
  try {
    const message = await post('rpc/twilio_send_sms', {
      to_number: plainNumber($('to_number').value),
      body,
      from_number: $('from_number').value || null,
      idempotency_key: key,
    });
    key = newKey();
    messages.follow(message);
    if (message.status === 'failed') {
      notice('send-notice', 'error', message.error_message, { focus: true });
      return;
    }
    notice('send-notice', 'good', `Message to ${message.to_number} is on its way.`);
    // Who types the next message already is left alone.
    if ($('body').value === body) {
      $('body').value = '';
      count();
      $('body').focus();
    }
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (error.status === 401) return;
    const field = fieldOf(error);
    if (field) {
      fieldError(field, error.sentence);
      $(field).focus();
    } else {
      notice('send-notice', 'error', error.sentence, { focus: true });
    }
  }
}

// Forgets what was typed by another user.
export function forget() {
  form.reset();
  clearErrors(form);
  notice('send-notice', 'good', '');
  key = newKey();
  count();
}

form.addEventListener('submit', (event) => {
  event.preventDefault();
  busy($('send-button'), 'Sending …', send);
});
// Another text or receiver is another message.
form.addEventListener('input', () => {
  key = newKey();
});
$('body').addEventListener('input', count);
numbers.onNumbers(offerSenders);
account.onSettings(offerSenders);
account.onSettings(openOrClose);
count();

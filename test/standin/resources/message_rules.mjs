// What Twilio refuses when a message is created, in its order and with its codes.

import { TwilioError } from '../errors.mjs';
import { E164 } from '../identifiers.mjs';
import { all, first } from '../parameters.mjs';

const LONGEST_BODY = 1600;
const MOST_MEDIA = 10;
const CHANNEL = /^(whatsapp|messenger|rcs|sms):.+/;
const SHORT_CODE = /^\d{3,8}$/;
const ALPHANUMERIC = /^(?=.*[A-Za-z])[A-Za-z0-9 &+_-]{1,11}$/;

// Twilio's magic numbers: fixed answers to fixed numbers.
const MAGIC_FROM = { '+15005550001': 21212, '+15005550007': 21606, '+15005550008': 21611 };
const MAGIC_TO = { '+15005550001': 21211, '+15005550002': 21612, '+15005550003': 21408, '+15005550004': 21610, '+15005550009': 21614 };
const GOOD_MAGIC_FROM = '+15005550006';

export function webUrl(text) {
  try {
    const url = new URL(text);
    return ['http:', 'https:'].includes(url.protocol) && url.hostname !== '' && !url.hostname.includes('_');
  } catch {
    return false;
  }
}

function checkContent(form) {
  const body = first(form, 'Body') ?? '';
  const media = all(form, 'MediaUrl');
  if (body === '' && media.length === 0 && !first(form, 'ContentSid')) throw new TwilioError(21602);
  if (body.length > LONGEST_BODY) throw new TwilioError(21617);
  if (media.length > MOST_MEDIA) throw new TwilioError(21623);
  if (!media.every(webUrl)) throw new TwilioError(21620);
}

// A message may be planned for 15 minutes to 35 days ahead.
function checkSendAt(text) {
  const minutes = (Date.parse(text) - Date.now()) / 60_000;
  if (!(minutes >= 15 && minutes <= 35 * 24 * 60)) throw new TwilioError(20001, `SendAt must be 15 minutes to 35 days ahead: ${text}`);
}

function checkOptions(form) {
  const callback = first(form, 'StatusCallback');
  if (callback !== undefined && callback !== '' && !webUrl(callback)) throw new TwilioError(21609, `The 'StatusCallback' URL ${callback} is not a valid URL.`);
  const validity = first(form, 'ValidityPeriod');
  if (first(form, 'MessagingServiceSid') && first(form, 'ScheduleType') === 'fixed') checkSendAt(first(form, 'SendAt') ?? '');
  if (validity !== undefined && !(Number(validity) >= 1 && Number(validity) <= 36000)) throw new TwilioError(21624);
}

function checkTo(account, to) {
  if (to in MAGIC_TO) throw new TwilioError(MAGIC_TO[to]);
  if (!E164.test(to) && !CHANNEL.test(to)) throw new TwilioError(21211, `Invalid 'To' Phone Number: ${to}`);
  if (account.type === 'Trial' && !account.verified_numbers.includes(to)) throw new TwilioError(21608);
}

function checkFrom(account, from) {
  if (from in MAGIC_FROM) throw new TwilioError(MAGIC_FROM[from]);
  if (from === GOOD_MAGIC_FROM || account.any_from) return;
  if (E164.test(from) || SHORT_CODE.test(from)) {
    const number = account.numbers.get(from);
    if (!number || !number.capabilities.sms) throw new TwilioError(21606, `The 'From' phone number provided (${from}) is not a valid message-capable Twilio phone number for this destination.`);
    return;
  }
  if (!CHANNEL.test(from) && !ALPHANUMERIC.test(from)) throw new TwilioError(21212, `Invalid 'From' Phone Number: ${from}`);
}

// Checks the form of a new message; what passes may be sent.
export function checkNewMessage(account, form) {
  const to = first(form, 'To') ?? '';
  const from = first(form, 'From') ?? '';
  const service = first(form, 'MessagingServiceSid') ?? '';
  if (to === '') throw new TwilioError(21604);
  if (from === '' && service === '') throw new TwilioError(21603);
  checkContent(form);
  checkOptions(form);
  checkTo(account, to);
  if (service !== '' && !account.messaging_services.includes(service)) throw new TwilioError(21705, `The Messaging Service Sid ${service} is invalid.`);
  if (from !== '') checkFrom(account, from);
  if (account.hasOptedOut(from || service, to)) throw new TwilioError(21610);
}

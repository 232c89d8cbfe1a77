// Phone numbers: the account's own (list, fetch, update, buy, release) and those that can be bought.

import { E164, phoneNumber, rfc2822, seededSid } from '../identifiers.mjs';
import { notFound, TwilioError } from '../errors.mjs';
import { first } from '../parameters.mjs';
import { pageOf } from '../paging.mjs';

// What a request may set, and what an untouched number answers.
const SETTINGS = {
  FriendlyName: ['friendly_name', null], ApiVersion: ['api_version', '2010-04-01'],
  SmsUrl: ['sms_url', ''], SmsMethod: ['sms_method', 'POST'], SmsFallbackUrl: ['sms_fallback_url', ''], SmsFallbackMethod: ['sms_fallback_method', 'POST'],
  SmsApplicationSid: ['sms_application_sid', ''], StatusCallback: ['status_callback', ''], StatusCallbackMethod: ['status_callback_method', 'POST'],
  VoiceUrl: ['voice_url', ''], VoiceMethod: ['voice_method', 'POST'], VoiceFallbackUrl: ['voice_fallback_url', ''], VoiceFallbackMethod: ['voice_fallback_method', 'POST'],
  VoiceApplicationSid: ['voice_application_sid', ''], VoiceCallerIdLookup: ['voice_caller_id_lookup', false], VoiceReceiveMode: ['voice_receive_mode', 'voice'],
  TrunkSid: ['trunk_sid', null], EmergencyStatus: ['emergency_status', 'Inactive'], EmergencyAddressSid: ['emergency_address_sid', null],
  IdentitySid: ['identity_sid', null], AddressSid: ['address_sid', null], BundleSid: ['bundle_sid', null],
};
const URLS = ['SmsUrl', 'SmsFallbackUrl', 'StatusCallback', 'VoiceUrl', 'VoiceFallbackUrl'];

function render(account, number) {
  const shown = {
    sid: number.sid,
    account_sid: account.sid,
    phone_number: number.phone_number,
    capabilities: number.capabilities,
    status: 'in-use',
    type: 'local',
    origin: 'twilio',
    beta: false,
    address_requirements: 'none',
    emergency_address_status: 'unregistered',
    date_created: rfc2822(number.created),
    date_updated: rfc2822(number.updated),
    uri: `/2010-04-01/Accounts/${account.sid}/IncomingPhoneNumbers/${number.sid}.json`,
  };
  for (const [name, usual] of Object.values(SETTINGS)) shown[name] = number.changes[name] ?? usual;
  shown.friendly_name = number.changes.friendly_name ?? number.friendly_name;
  return shown;
}

function isWebUrl(text) {
  try {
    return ['http:', 'https:'].includes(new URL(text).protocol);
  } catch {
    return false;
  }
}

// Takes over what a form sets; unusable URLs are refused as Twilio does.
function applySettings(number, form) {
  for (const [name, value] of form) {
    if (!(name in SETTINGS)) continue;
    if (URLS.includes(name) && value !== '' && !isWebUrl(value)) throw new TwilioError(21402, `${name} is not valid: ${value}`);
    number.changes[SETTINGS[name][0]] = name === 'VoiceCallerIdLookup' ? value === 'true' : value;
  }
  number.updated = Date.now();
}

function list(request) {
  const { account, query } = request;
  const wanted = first(query, 'PhoneNumber');
  const pattern = wanted === undefined ? null : new RegExp(wanted.replace(/[^0-9*A-Za-z]/g, '').replaceAll('*', '.'));
  const name = first(query, 'FriendlyName');
  const numbers = [...account.numbers.values()].filter((number) => (!pattern || pattern.test(number.phone_number))
    && (name === undefined || number.friendly_name === name));
  return { body: pageOf('incoming_phone_numbers', numbers, request, (number) => render(account, number)) };
}

function find({ account, args, path }) {
  const number = account.numbersBySid.get(args[1]);
  if (!number) throw notFound(path);
  return number;
}

function update(request) {
  const number = find(request);
  applySettings(number, request.form);
  return { body: render(request.account, number) };
}

function release(request) {
  const number = find(request);
  request.account.numbers.delete(number.phone_number);
  request.account.numbersBySid.delete(number.sid);
  return { status: 204 };
}

function buy({ world, account, form }) {
  const asked = first(form, 'PhoneNumber');
  const area = first(form, 'AreaCode');
  if (account.type === 'Trial') throw new TwilioError(21404);
  if (area === '533') throw new TwilioError(21452);
  const wanted = asked ?? (area === undefined ? undefined : `+1${area}555${String(1000 + account.numbers.size)}`);
  if (wanted === undefined || wanted === '+15005550001' || !E164.test(wanted)) throw new TwilioError(21421);
  const taken = [...world.accounts.bySid.values()].some((other) => other.numbers.has(wanted));
  if (wanted === '+15005550000' || taken) throw new TwilioError(21422);
  const number = account.addNumber({ phone_number: wanted, sid: seededSid('PN', `${account.sid}${wanted}${Date.now()}`) });
  applySettings(number, form);
  return { status: 201, sid: number.sid, body: render(account, number) };
}

// Offers thirty numbers, the same each time; the list has no pages, as observed at Twilio.
function available({ account, args, query, path }) {
  const area = first(query, 'AreaCode');
  const contains = first(query, 'Contains')?.replace(/[^0-9]/g, '');
  if (!/^[A-Z]{2}$/.test(args[1])) throw notFound(path);
  const most = Number(first(query, 'PageSize') ?? 30);
  const offers = [];
  for (let n = 0; n < 200 && offers.length < Math.min(most, 30); n += 1) {
    const plain = phoneNumber(`offer ${args[1]}`, 5550100 + n);
    const number = area === undefined ? plain : `+1${area}${plain.slice(5)}`;
    if (contains && !number.includes(contains)) continue;
    if (account.numbers.has(number)) continue;
    offers.push({
      phone_number: number, friendly_name: number.replace(/^\+1(\d{3})(\d{3})(\d{4})$/, '($1) $2-$3'), iso_country: args[1],
      lata: '722', locality: 'San Francisco', rate_center: 'SNFC CNTRL', latitude: '37.780000', longitude: '-122.380000', region: 'CA', postal_code: '94103',
      address_requirements: 'none', beta: false, capabilities: { voice: true, sms: true, mms: true },
    });
  }
  return { body: { available_phone_numbers: offers, uri: path } };
}

export function addNumberRoutes(router) {
  const numbers = '/2010-04-01/Accounts/{AccountSid}/IncomingPhoneNumbers';
  router.add('api', 'GET', `${numbers}.json`, list);
  router.add('api', 'POST', `${numbers}.json`, buy);
  router.add('api', 'GET', `${numbers}/Local.json`, list);
  router.add('api', 'GET', `${numbers}/{Sid}.json`, (request) => ({ body: render(request.account, find(request)) }));
  router.add('api', 'POST', `${numbers}/{Sid}.json`, update);
  router.add('api', 'DELETE', `${numbers}/{Sid}.json`, release);
  router.add('api', 'GET', '/2010-04-01/Accounts/{AccountSid}/AvailablePhoneNumbers/{CountryCode}/Local.json', available);
}

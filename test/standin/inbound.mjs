// Messages that arrive at one of an account's numbers: the resource Twilio makes, the opt-out words it
// understands, and the webhook it sends.

import { newSid, seededSid } from './identifiers.mjs';
import { segmentCount } from './segments.mjs';

const STOP = ['STOP', 'STOPALL', 'UNSUBSCRIBE', 'CANCEL', 'END', 'QUIT'];
const START = ['START', 'YES', 'UNSTOP'];

// Notes an opt-out or opt-in: only a body of one single word counts.
function noteOptOut(account, { from, to, body }) {
  const word = body.trim().toUpperCase();
  if (STOP.includes(word)) account.optOut(to, from, true);
  if (START.includes(word)) account.optOut(to, from, false);
}

// Where a number's messages go: to its sms_url, unless it has an application, which goes before it.
function webhookOf(number) {
  return number?.changes.sms_application_sid ? undefined : number?.changes.sms_url;
}

// Makes the inbound message and returns {url, params} of its webhook.
export function receive(account, { from, to, body = '', media = [], url, sid: givenSid, extra = {} }) {
  const files = typeof media === 'number' ? Array.from({ length: media }, () => ({})) : media;
  const created = Date.now();
  const sid = givenSid ?? newSid(files.length > 0 ? 'MM' : 'SM');
  const message = {
    sid, account: account.sid, to, from, pinned: true, body, service: null, media: files, segments: segmentCount(body), direction: 'inbound',
    created, begins: created, initial: 'received', steps: [], ratedAfter: 0, fixedStatus: 'received', fixedSentAt: created, sentAt: created, callback: null, deleted: false,
  };
  if (!account.messages.get(sid)) account.messages.add(message);
  noteOptOut(account, message);
  const params = [
    ['ToCountry', 'US'], ['ToState', 'CA'], ['SmsMessageSid', sid], ['NumMedia', String(files.length)], ['ToCity', ''], ['FromZip', ''], ['SmsSid', sid],
    ['FromState', 'CA'], ['SmsStatus', 'received'], ['FromCity', 'SAN FRANCISCO'], ['Body', body], ['FromCountry', 'US'], ['To', to], ['ToZip', ''],
    ['NumSegments', String(message.segments)], ['MessageSid', sid], ['AccountSid', account.sid], ['From', from], ['ApiVersion', '2010-04-01'],
  ];
  files.forEach((file, n) => {
    const mediaSid = seededSid('ME', `${sid}${n}`);
    params.push([`MediaContentType${n}`, file.content_type ?? 'image/jpeg']);
    params.push([`MediaUrl${n}`, file.url ?? `https://api.twilio.com/2010-04-01/Accounts/${account.sid}/Messages/${sid}/Media/${mediaSid}`]);
  });
  for (const [name, value] of Object.entries(extra)) params.push([name, String(value)]);
  return { sid, url: url ?? webhookOf(account.numbers.get(to)), params };
}

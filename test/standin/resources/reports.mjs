// What an account may look up about itself: recordings and usage.

import { iso8601, rfc2822 } from '../identifiers.mjs';
import { notFound } from '../errors.mjs';
import { first } from '../parameters.mjs';
import { pageOf } from '../paging.mjs';

const DAY = 86_400_000;
const INTERVALS = ['AllTime', 'Daily', 'Monthly', 'Yearly', 'Today', 'Yesterday', 'ThisMonth', 'LastMonth'];

function renderRecording(account, recording) {
  const uri = `/2010-04-01/Accounts/${account.sid}/Recordings/${recording.sid}`;
  const date = rfc2822(recording.created);
  return {
    sid: recording.sid, account_sid: account.sid, call_sid: recording.call.sid, conference_sid: null, api_version: '2010-04-01', date_created: date, date_updated: date,
    start_time: date, duration: '1', price: '-0.00250', price_unit: 'USD', status: 'completed', channels: 1, source: recording.source, error_code: null, uri: `${uri}.json`,
    encryption_details: null, media_url: `https://api.twilio.com${uri}`,
    subresource_uris: { add_on_results: `${uri}/AddOnResults.json`, transcriptions: `${uri}/Transcriptions.json` },
  };
}

function listRecordings(request) {
  const call = first(request.query, 'CallSid');
  const recordings = request.account.recordings.filter((recording) => call === undefined || recording.call.sid === call);
  return { body: pageOf('recordings', recordings, request, (recording) => renderRecording(request.account, recording)) };
}

function fetchRecording({ account, args, path }) {
  const recording = account.recordings.find((other) => other.sid === args[1]);
  if (!recording) throw notFound(path);
  return { body: renderRecording(account, recording) };
}

const dateText = (millis) => new Date(millis).toISOString().slice(0, 10);

// Returns the time spans that an interval is divided into, newest first: [{start, end}].
function spans(interval, query, account) {
  const now = new Date();
  const today = Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate());
  const month = (offset) => Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + offset, 1);
  const from = Date.parse(first(query, 'StartDate') ?? '') || Math.min(account.created, today - 2 * DAY);
  const to = Date.parse(first(query, 'EndDate') ?? '') || today;
  switch (interval) {
    case 'Today': return [{ start: today, end: today }];
    case 'Yesterday': return [{ start: today - DAY, end: today - DAY }];
    case 'ThisMonth': return [{ start: month(0), end: today }];
    case 'LastMonth': return [{ start: month(-1), end: month(0) - DAY }];
    case 'Daily': {
      const days = [];
      for (let day = Math.floor(to / DAY) * DAY; day >= Math.floor(from / DAY) * DAY && days.length < 400; day -= DAY) days.push({ start: day, end: day });
      return days;
    }
    default: return [{ start: from, end: to }];
  }
}

// Adds up one category over one span.
function measure(account, category, { start, end }) {
  const inside = (thing) => thing.created >= start && thing.created < end + DAY;
  const sent = account.messages.newestFirst((message) => inside(message) && message.direction !== 'inbound');
  const received = account.messages.newestFirst((message) => inside(message) && message.direction === 'inbound');
  const calls = account.calls.filter(inside);
  const segments = (messages) => messages.reduce((sum, message) => sum + message.segments, 0);
  const made = {
    'sms-outbound': ['Outbound SMS', sent.length, segments(sent), 'messages', 'segments', 0.0079 * segments(sent)],
    'sms-inbound': ['Inbound SMS', received.length, segments(received), 'messages', 'segments', 0.0079 * segments(received)],
    sms: ['SMS', sent.length + received.length, segments(sent) + segments(received), 'messages', 'segments', 0.0079 * (segments(sent) + segments(received))],
    calls: ['Voice Minutes', calls.length, calls.length, 'calls', 'minutes', 0.014 * calls.length],
    phonenumbers: ['Phone Numbers', account.numbers.size, account.numbers.size, 'numbers', 'numbers', 1.15 * account.numbers.size],
  };
  if (category !== 'totalprice') return made[category];
  const total = made.sms[5] + made.calls[5] + made.phonenumbers[5];
  return ['Total Price', null, total.toFixed(4), null, 'usd', total];
}

function usageRecords(interval) {
  return (request) => {
    const { account, query, path } = request;
    const wanted = first(query, 'Category');
    const categories = ['totalprice', 'sms', 'sms-inbound', 'sms-outbound', 'calls', 'phonenumbers'].filter((category) => wanted === undefined || category === wanted);
    const records = spans(interval, query, account).flatMap((span) => categories.map((category) => ({ category, span })));
    const base = `/2010-04-01/Accounts/${account.sid}/Usage/Records`;
    const render = ({ category, span }) => {
      const [description, count, usage, countUnit, usageUnit, price] = measure(account, category, span);
      const dates = `Category=${category}&StartDate=${dateText(span.start)}&EndDate=${dateText(span.end)}`;
      return {
        account_sid: account.sid, api_version: '2010-04-01', as_of: iso8601(Date.now()).replace('Z', '+00:00'), category, description,
        count: count === null ? null : String(count), count_unit: countUnit, usage: String(usage), usage_unit: usageUnit, price: price.toFixed(4), price_unit: 'usd',
        start_date: dateText(span.start), end_date: dateText(span.end), uri: `${path}?${dates}`,
        subresource_uris: Object.fromEntries(INTERVALS.map((name) => [name.replace(/(?!^)([A-Z])/g, '_$1').toLowerCase(), `${base}/${name}.json?Category=${category}`])),
      };
    };
    return { body: pageOf('usage_records', records, request, render) };
  };
}

export function addReportRoutes(router) {
  router.add('api', 'GET', '/2010-04-01/Accounts/{AccountSid}/Recordings.json', listRecordings);
  router.add('api', 'GET', '/2010-04-01/Accounts/{AccountSid}/Recordings/{Sid}.json', fetchRecording);
  router.add('api', 'GET', '/2010-04-01/Accounts/{AccountSid}/Usage/Records.json', usageRecords('AllTime'));
  for (const interval of INTERVALS) router.add('api', 'GET', `/2010-04-01/Accounts/{AccountSid}/Usage/Records/${interval}.json`, usageRecords(interval));
}

// Calls: create, list, fetch, hang up, redirect, delete; and the recordings they leave.

import { callSteps, stepAt } from '../timeline.mjs';
import { E164, newSid, rfc2822 } from '../identifiers.mjs';
import { notFound, TwilioError } from '../errors.mjs';
import { all, first } from '../parameters.mjs';
import { pageOf } from '../paging.mjs';
import { webUrl } from './message_rules.mjs';

const FINAL = ['completed', 'busy', 'failed', 'no-answer', 'canceled'];
const MAGIC_FROM = { '+15005550001': 21212 };
const MAGIC_TO = { '+15005550001': 21217, '+15005550002': 21214, '+15005550003': 21215, '+15005550004': 21216 };
const SUBRESOURCES = { notifications: 'Notifications', recordings: 'Recordings', payments: 'Payments', events: 'Events', siprec: 'Siprec', streams: 'Streams',
  transcriptions: 'Transcriptions', user_defined_message_subscriptions: 'UserDefinedMessageSubscriptions', user_defined_messages: 'UserDefinedMessages' };
const LONGEST_TWIML = 4000;

function formatted(number) { return number.replace(/^\+1(\d{3})(\d{3})(\d{4})$/, '($1) $2-$3'); }

function stateOf(call, now = Date.now()) {
  const passed = call.steps.filter((step) => !step.hidden);
  const step = call.fixed ?? stepAt(passed, call.created, now);
  const answered = call.steps.find((other) => other.status === 'in-progress');
  const startedAt = answered && call.created + answered.after <= (call.fixed?.at ?? now) ? call.created + answered.after : null;
  const status = step?.status ?? 'queued';
  const endedAt = FINAL.includes(status) ? call.fixed?.at ?? call.created + step.after : null;
  return { status, startedAt, endedAt };
}

function render(call) {
  const { status, startedAt, endedAt } = stateOf(call);
  const done = status === 'completed' && startedAt !== null;
  const uri = `/2010-04-01/Accounts/${call.account}/Calls/${call.sid}`;
  return {
    sid: call.sid, account_sid: call.account, parent_call_sid: null,
    to: call.to, to_formatted: formatted(call.to), from: call.from, from_formatted: formatted(call.from), phone_number_sid: call.numberSid,
    status, direction: 'outbound-api',
    start_time: startedAt === null ? null : rfc2822(startedAt), end_time: endedAt === null ? null : rfc2822(endedAt),
    duration: done ? String(Math.ceil((endedAt - startedAt) / 1000)) : endedAt === null ? null : '0',
    price: done ? '-0.01400' : null, price_unit: 'USD', answered_by: null, api_version: '2010-04-01', forwarded_from: null, group_sid: null, caller_name: null,
    queue_time: '0', trunk_sid: null, date_created: rfc2822(call.created), date_updated: rfc2822(endedAt ?? call.created), uri: `${uri}.json`,
    subresource_uris: Object.fromEntries(Object.entries(SUBRESOURCES).map(([name, path]) => [name, `${uri}/${path}.json`])),
  };
}

function checkNewCall(account, form) {
  const to = first(form, 'To') ?? '';
  const from = first(form, 'From') ?? '';
  if (to === '') throw new TwilioError(21201);
  if (from === '') throw new TwilioError(21213);
  const url = first(form, 'Url');
  const twiml = first(form, 'Twiml');
  if (!url && !twiml && !first(form, 'ApplicationSid')) throw new TwilioError(21205);
  if (url && !webUrl(url)) throw new TwilioError(21205, `Url is not a valid URL: ${url}`);
  if ((twiml?.length ?? 0) > LONGEST_TWIML) throw new TwilioError(32018);
  for (const name of ['StatusCallback', 'FallbackUrl']) if (first(form, name) && !webUrl(first(form, name))) throw new TwilioError(21609, `${name} is not a valid URL`);
  if (to in MAGIC_TO) throw new TwilioError(MAGIC_TO[to]);
  if (!E164.test(to) && !/^(sip|client):.+/.test(to)) throw new TwilioError(21211, `Invalid 'To' Phone Number: ${to}`);
  if (account.type === 'Trial' && !account.verified_numbers.includes(to)) throw new TwilioError(21219);
  if (from in MAGIC_FROM || (!E164.test(from) && !from.startsWith('client:'))) throw new TwilioError(21212, `Invalid 'From' Phone Number: ${from}`);
  const owned = account.any_from || from === '+15005550006' || account.verified_numbers.includes(from) || account.numbers.get(from)?.capabilities.voice;
  if (!owned) throw new TwilioError(21210, `The source phone number provided, ${from}, is not yet verified for your account.`);
}

// The parameters of a call status callback, which come with every step that the caller asked for.
function statusParams(call, step, sequence) {
  const params = [
    ['CallSid', call.sid], ['AccountSid', call.account], ['From', call.from], ['To', call.to], ['Caller', call.from], ['Called', call.to], ['CallStatus', step.status],
    ['Direction', 'outbound-api'], ['ApiVersion', '2010-04-01'], ['Timestamp', rfc2822(Date.now())], ['CallbackSource', 'call-progress-events'], ['SequenceNumber', String(sequence)],
  ];
  if (step.status === 'completed') params.push(['CallDuration', '1'], ['Duration', '1']);
  if (step.error_code) params.push(['ErrorCode', String(step.error_code)]);
  return params;
}

function follow(world, account, call) {
  const events = call.events.length > 0 ? call.events : ['completed'];
  const eventOf = { initiated: 'initiated', ringing: 'ringing', 'in-progress': 'answered' };
  let sequence = 0;
  for (const step of call.steps) {
    if (!events.includes(eventOf[step.status] ?? 'completed')) continue;
    const n = sequence;
    sequence += 1;
    world.callbacks.later(step.after + account.callback_latency, () => {
      if (call.fixed && call.fixed.status !== step.status) return null;
      return world.callbacks.send(account, { url: call.callback, method: call.callbackMethod, params: statusParams(call, step, n) });
    });
  }
}

function addRecording(account, call) {
  account.recordings.push({ sid: newSid('RE'), call, created: Date.now(), source: 'OutboundAPI' });
}

function create({ world, account, form }) {
  checkNewCall(account, form);
  const to = first(form, 'To');
  const from = first(form, 'From');
  const call = {
    sid: newSid('CA'), account: account.sid, to, from, numberSid: account.numbers.get(from)?.sid ?? null, created: Date.now(), fixed: null,
    steps: callSteps(account.life, world.fates.pick(account, to, from, first(form, 'Twiml') ?? '')),
    callback: first(form, 'StatusCallback') || null, callbackMethod: first(form, 'StatusCallbackMethod') ?? 'POST',
    events: all(form, 'StatusCallbackEvent').flatMap((event) => event.split(' ')),
  };
  account.calls.push(call);
  account.callsBySid.set(call.sid, call);
  if (first(form, 'Record') === 'true') addRecording(account, call);
  if (call.callback && account.callbacks === 'auto' && !account.test) follow(world, account, call);
  return { status: 201, sid: call.sid, body: render(call) };
}

function find({ account, args, path }) {
  const call = account.callsBySid.get(args[1]);
  if (!call) throw notFound(path);
  return call;
}

function list(request) {
  const { account, query } = request;
  const wanted = Object.fromEntries(['To', 'From', 'Status'].map((name) => [name, first(query, name)]));
  const since = Date.parse(first(query, 'StartTime>') ?? '');
  const calls = account.calls.filter((call) => (wanted.To === undefined || call.to === wanted.To) && (wanted.From === undefined || call.from === wanted.From)
    && (wanted.Status === undefined || stateOf(call).status === wanted.Status) && (Number.isNaN(since) || call.created >= since)).reverse();
  return { body: pageOf('calls', calls, request, render) };
}

// Hangs up, cancels or redirects.
function update(request) {
  const call = find(request);
  const { status } = stateOf(call);
  const wanted = first(request.form, 'Status');
  if (wanted === 'completed' && !FINAL.includes(status)) call.fixed = { status: 'completed', at: Date.now() };
  else if (wanted === 'canceled' && ['queued', 'ringing'].includes(status)) call.fixed = { status: 'canceled', at: Date.now() };
  else if (wanted === undefined && status !== 'in-progress') throw new TwilioError(21220);
  return { body: render(call) };
}

function remove(request) {
  const call = find(request);
  if (!FINAL.includes(stateOf(call).status)) throw new TwilioError(20009);
  request.account.callsBySid.delete(call.sid);
  request.account.calls = request.account.calls.filter((other) => other !== call);
  return { status: 204 };
}

export function addCallRoutes(router) {
  const calls = '/2010-04-01/Accounts/{AccountSid}/Calls';
  router.add('api', 'POST', `${calls}.json`, create);
  router.add('api', 'GET', `${calls}.json`, list);
  router.add('api', 'GET', `${calls}/{Sid}.json`, (request) => ({ body: render(find(request)) }));
  router.add('api', 'POST', `${calls}/{Sid}.json`, update);
  router.add('api', 'DELETE', `${calls}/{Sid}.json`, remove);
}

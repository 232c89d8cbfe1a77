// Messages: create, list, fetch, redact, cancel, delete, and their media.

import { errorText, messageSteps, stepAt } from '../timeline.mjs';
import { newSid, rfc2822, seededSid } from '../identifiers.mjs';
import { notFound, TwilioError } from '../errors.mjs';
import { all, first } from '../parameters.mjs';
import { pageOf } from '../paging.mjs';
import { segmentCount } from '../segments.mjs';
import { checkNewMessage } from './message_rules.mjs';

// The statuses in which Twilio lets a message be redacted or deleted.
const FINAL = ['delivered', 'undelivered', 'failed', 'canceled', 'read', 'received', 'sent'];

// Returns where a message stands now: {status, error_code, sentAt}.
export function stateOf(message, now = Date.now()) {
  if (message.fixedStatus) return { status: message.fixedStatus, error_code: null, sentAt: message.fixedSentAt };
  const step = stepAt(message.steps, message.begins, now);
  const sent = message.steps.find((other) => other.status === 'sent');
  return {
    status: step?.status ?? message.initial,
    error_code: step?.error_code ?? null,
    sentAt: sent && message.begins + sent.after <= now ? message.begins + sent.after : null,
  };
}

// When a message was sent does not change any more; a list asks for it of a hundred thousand.
function sentAtOf(message) {
  message.sentAt ??= stateOf(message).sentAt;
  return message.sentAt;
}

export function render(message) {
  const now = Date.now();
  const { status, error_code, sentAt } = stateOf(message, now);
  const rated = sentAt !== null && message.begins + message.ratedAfter <= now;
  const uri = `/2010-04-01/Accounts/${message.account}/Messages/${message.sid}`;
  return {
    sid: message.sid,
    account_sid: message.account,
    messaging_service_sid: message.service,
    from: message.service && !message.pinned && sentAt === null ? null : message.from,
    to: message.to,
    body: message.body,
    status,
    direction: message.direction,
    num_segments: message.service && sentAt === null ? '0' : String(message.segments),
    num_media: String(message.media.length),
    price: rated ? (-0.0079 * message.segments).toFixed(5) : null,
    price_unit: 'USD',
    error_code,
    error_message: errorText(error_code),
    api_version: '2010-04-01',
    date_created: rfc2822(message.created),
    date_updated: rfc2822(sentAt ?? message.created),
    date_sent: sentAt === null ? null : rfc2822(sentAt),
    uri: `${uri}.json`,
    subresource_uris: { media: `${uri}/Media.json` },
  };
}

function create({ world, account, form }) {
  checkNewMessage(account, form);
  const to = first(form, 'To');
  const body = first(form, 'Body') ?? '';
  const service = first(form, 'MessagingServiceSid') || null;
  const given = first(form, 'From') || null;
  const from = given ?? account.numbers.keys().next().value ?? '+15005550006';
  const media = all(form, 'MediaUrl');
  const created = Date.now();
  const sendAt = service && first(form, 'ScheduleType') === 'fixed' ? Date.parse(first(form, 'SendAt') ?? '') : NaN;
  const message = {
    sid: newSid(media.length > 0 ? 'MM' : 'SM'), account: account.sid, to, from, pinned: given !== null, body, service, media,
    segments: segmentCount(body), direction: 'outbound-api', created,
    begins: Number.isNaN(sendAt) ? created : sendAt,
    initial: Number.isNaN(sendAt) ? (service ? 'accepted' : 'queued') : 'scheduled',
    steps: messageSteps(account.life, world.fates.pick(account, to, from, body), service !== null),
    ratedAfter: account.life.price_after, fixedStatus: null, fixedSentAt: null, sentAt: null,
    callback: first(form, 'StatusCallback') || null, deleted: false,
  };
  account.messages.add(message);
  if (message.callback && account.callbacks === 'auto' && !account.test) world.callbacks.follow(account, message);
  return { status: 201, sid: message.sid, body: render(message) };
}

function find({ account, args, path }) {
  const message = account.messages.get(args[1]);
  if (!message) throw notFound(path);
  return message;
}

// Reads the three DateSent filters; a bare date is a whole day, and both ends count as inside.
function dateFilter(query) {
  const day = 86_400_000;
  const tests = [];
  for (const [name, value] of query) {
    if (!name.startsWith('DateSent')) continue;
    const at = Date.parse(value);
    if (Number.isNaN(at)) throw new TwilioError(20001, `Invalid ${name}: ${value}`);
    const length = value.length === 10 ? day - 1 : 999;
    if (name === 'DateSent') tests.push((time) => time >= at && time <= at + length);
    if (name === 'DateSent<') tests.push((time) => time <= at + length);
    if (name === 'DateSent>') tests.push((time) => time >= at);
  }
  return tests.length === 0 ? null : (time) => tests.every((test) => test(time));
}

// Lists newest first. A message that is not sent yet counts with the time of its creation.
function list(request) {
  const { account, query } = request;
  const to = first(query, 'To');
  const from = first(query, 'From');
  const inside = dateFilter(query);
  const found = account.messages.newestFirst((message) => (from === undefined || message.from === from)
    && (!inside || inside(sentAtOf(message) ?? message.created)), to);
  return { body: pageOf('messages', found, request, render) };
}

function update(request) {
  const message = find(request);
  const body = first(request.form, 'Body');
  const status = first(request.form, 'Status');
  if ((body === undefined) === (status === undefined)) throw new TwilioError(30400);
  if (body !== undefined) {
    if (body !== '') throw new TwilioError(30400, 'The body can only be replaced with an empty one');
    if (!FINAL.includes(stateOf(message).status)) throw new TwilioError(20009, 'Cannot redact this message before it is complete');
    message.body = '';
  } else {
    if (status !== 'canceled') throw new TwilioError(30400);
    if (stateOf(message).status !== 'scheduled') throw new TwilioError(30409);
    message.fixedStatus = 'canceled';
    request.world.callbacks.tell(request.account, message, { status: 'canceled' });
  }
  return { body: render(message) };
}

function remove(request) {
  const message = find(request);
  if (!FINAL.includes(stateOf(message).status)) throw new TwilioError(20009);
  request.account.messages.remove(message);
  return { status: 204 };
}

function renderMedia(message, n) {
  const sid = seededSid('ME', `${message.sid}${n}`);
  return {
    sid, account_sid: message.account, parent_sid: message.sid, content_type: message.media[n].content_type ?? 'image/jpeg',
    date_created: rfc2822(message.created), date_updated: rfc2822(message.created),
    uri: `/2010-04-01/Accounts/${message.account}/Messages/${message.sid}/Media/${sid}.json`,
  };
}

function listMedia(request) {
  const message = find(request);
  return { body: pageOf('media_list', message.media.map((_, n) => renderMedia(message, n)), request, (media) => media) };
}

export function addMessageRoutes(router) {
  const messages = '/2010-04-01/Accounts/{AccountSid}/Messages';
  router.add('api', 'POST', `${messages}.json`, create);
  router.add('api', 'GET', `${messages}.json`, list);
  router.add('api', 'GET', `${messages}/{Sid}.json`, (request) => ({ body: render(find(request)) }));
  router.add('api', 'POST', `${messages}/{Sid}.json`, update);
  router.add('api', 'DELETE', `${messages}/{Sid}.json`, remove);
  router.add('api', 'GET', `${messages}/{MessageSid}/Media.json`, listMedia);
}

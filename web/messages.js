// The user's messages, newest first, and the chart of them. Both are asked for again every few seconds while the page
// can be seen; rows that did not change are left alone.

import { get, getRows, post, Refusal } from './api.js';
import { clear, draw } from './chart.js';
import { $, announce, busy, make, notice, when } from './page.js';

const COLUMNS =
  'id,direction,from_number,to_number,body,status,error_code,error_message,num_segments,num_media,send_at,created_at,updated_at';
const PAGE = 25;
const INTERVAL = 3000;
const SHORT_INTERVAL = 1000; // while one of them is on its way
const CANCELABLE = ['pending', 'scheduled'];
const FINAL = ['delivered', 'undelivered', 'failed', 'canceled', 'read', 'received', 'unresolved'];

// What people call a status, and how it looks.
const STATUSES = {
  pending: ['Waiting', 'waiting'],
  submitting: ['Sending', 'waiting'],
  unknown: ['Checking', 'waiting'],
  unresolved: ['Unclear', 'bad'],
  accepted: ['Accepted', 'waiting'],
  scheduled: ['Scheduled', 'waiting'],
  queued: ['Queued', 'waiting'],
  sending: ['Sending', 'waiting'],
  sent: ['Sent', 'waiting'],
  partially_delivered: ['Delivered in part', 'waiting'],
  delivered: ['Delivered', 'good'],
  read: ['Read', 'good'],
  received: ['Received', 'good'],
  receiving: ['Receiving', 'waiting'],
  undelivered: ['Not delivered', 'bad'],
  failed: ['Failed', 'bad'],
  canceled: ['Canceled', 'quiet'],
};

let timer;
let running = false;
let onTheWay = false;
let round = 0; // whoever is of an earlier round does not go on
let wanted = PAGE;
let drawn = ''; // the list that the chart was drawn for, and when
let drawnAt = 0;
const rows = new Map(); // id → {item, seen}
const followed = new Map(); // id → last status said aloud

const nameOf = (status) => STATUSES[status]?.[0] ?? status;

function act(button, label, path, id) {
  busy(button, label, async () => {
    notice('messages-notice', 'error', '');
    try {
      const done = await post(path, { id });
      await look();
      if (done === false) notice('messages-notice', 'error', 'It is too late to cancel this message.', { focus: true });
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      if (error.status !== 401) notice('messages-notice', 'error', error.sentence, { focus: true });
    }
  });
}

function action(message) {
  const [text, label, path] = CANCELABLE.includes(message.status)
    ? ['Cancel', 'Canceling …', 'rpc/twilio_cancel_message']
    : ['failed', 'undelivered', 'unresolved'].includes(message.status) && message.direction !== 'inbound'
      ? ['Send again', 'Sending …', 'rpc/twilio_retry_message']
      : [];
  if (!text) return '';
  const button = make('button', 'quiet small', text);
  button.type = 'button';
  button.setAttribute('aria-label', `${text}: message to ${message.to_number}`);
  button.addEventListener('click', () => act(button, label, path, message.id));
  return button;
}

function problem({ error_code: code, error_message: text }) {
  if (!code && !text) return [];
  const line = make('p', 'problem', text ? `${text} ` : 'Twilio reports an error: ');
  if (code)
    line.append(
      Object.assign(make('a', '', String(code)), {
        href: `https://www.twilio.com/docs/api/errors/${code}`,
        target: '_blank',
        rel: 'noreferrer',
      }),
    );
  return [line];
}

// What else there is to a message, in a few words each.
function notes({ num_segments: segments, num_media: media, send_at: planned, status }) {
  return [
    segments > 1 && make('span', '', `${segments} segments`),
    media > 0 && make('span', '', media === 1 ? '1 attachment' : `${media} attachments`),
    planned && CANCELABLE.includes(status) && make('span', '', 'planned for ', when(planned)),
  ].filter(Boolean);
}

function fill(item, message) {
  const inbound = message.direction === 'inbound';
  const [name, look] = STATUSES[message.status] ?? [message.status, 'quiet'];
  item.dataset.direction = inbound ? 'inbound' : 'outbound';
  item.dataset.id = message.id;
  item.replaceChildren(
    make(
      'div',
      'message-head',
      make(
        'span',
        'party',
        make('span', 'direction', inbound ? 'From ' : 'To '),
        make('strong', '', (inbound ? message.from_number : message.to_number) ?? ''),
      ),
      make('span', `state ${look}`, name),
    ),
    make('p', 'message-body', message.body ?? ''),
    ...problem(message),
    make(
      'div',
      'message-foot',
      when(message.created_at),
      ...notes(message),
      action(message),
    ),
  );
}

function say(message) {
  if (!followed.has(message.id) || followed.get(message.id) === message.status) return;
  followed.set(message.id, message.status);
  if (!FINAL.includes(message.status)) return;
  announce(`Message to ${message.to_number}: ${nameOf(message.status)}.`);
  followed.delete(message.id);
}

function show(list) {
  const place = $('messages-list');
  const focused = document.activeElement;
  const oldest = place.lastChild;
  list.forEach((message, position) => {
    const row = rows.get(message.id) ?? { item: make('li'), seen: '' };
    rows.set(message.id, row);
    const now = JSON.stringify(message);
    if (row.seen !== now) fill(row.item, message);
    row.seen = now;
    if (place.children[position] !== row.item) place.insertBefore(row.item, place.children[position] ?? null);
    say(message);
  });
  while (place.children.length > list.length) {
    rows.delete(place.lastChild.dataset.id);
    place.lastChild.remove();
  }
  $('messages-empty').hidden = list.length > 0;
  $('more').hidden = list.length < wanted;
  // A button that went away must not take the focus to the top of the page.
  if (focused !== document.body && !focused.isConnected) $('messages-title').focus();
  if (focused === $('more') && $('more').hidden) {
    const next = oldest?.nextSibling ?? $('messages-title');
    next.tabIndex = -1;
    next.focus();
  }
}

// Browsers name time zones that a server may not know, such as Asia/Calcutta: then days are counted by today's offset,
// as POSIX writes it: UTC-5:30 is east of UTC.
async function perDay() {
  const of = (zone) => get(`rpc/twilio_messages_per_day?days=14&time_zone=${encodeURIComponent(zone)}`);
  try {
    return await of(Intl.DateTimeFormat().resolvedOptions().timeZone);
  } catch (error) {
    if (error.code !== '22023') throw error;
    const minutes = new Date().getTimezoneOffset();
    const size = Math.abs(minutes);
    return of(`UTC${minutes < 0 ? '-' : '+'}${Math.floor(size / 60)}:${String(size % 60).padStart(2, '0')}`);
  }
}

async function look() {
  const asked = wanted;
  const list = await getRows(`twilio_messages?select=${COLUMNS}&order=created_at.desc,id.desc`, asked);
  if (asked !== wanted) return; // the list that has been asked for since is longer
  show(list);
  onTheWay = list.some(
    ({ status, created_at }) =>
      !FINAL.includes(status) && status !== 'scheduled' && Date.now() - Date.parse(created_at) < 60_000,
  );
  $('messages-state').textContent = '';
  const now = JSON.stringify(list);
  if (now === drawn && Date.now() - drawnAt < 60_000) return;
  draw(await perDay());
  drawn = now;
  drawnAt = Date.now();
}

async function turn(mine) {
  try {
    await look();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (error.status !== 401) $('messages-state').textContent = error.sentence;
  }
  if (mine === round && !document.hidden) timer = setTimeout(turn, onTheWay ? SHORT_INTERVAL : INTERVAL, mine);
}

export function start() {
  stop();
  running = true;
  turn(round);
}

export function stop() {
  clearTimeout(timer);
  running = false;
  round += 1;
}

// Forgets what belongs to another user.
export function forget() {
  wanted = PAGE;
  drawn = '';
  followed.clear();
  clear();
  notice('messages-notice', 'error', '');
  show([]);
}

// Says aloud what becomes of a message that was just sent, and shows it at once.
export function follow(message) {
  followed.set(message.id, message.status);
  start();
}

$('more').addEventListener('click', () => {
  wanted += PAGE;
  start();
});
$('messages-title').tabIndex = -1;
document.addEventListener('visibilitychange', () => {
  if (!document.hidden && running) start();
});

// Orders to misbehave, given by a test through the control API, and how each of them is carried out.
//
// An order matches requests and names an action. Orders are tried in the sequence they were given; the first
// that matches is used. `accept` says whether Twilio did what was asked before it misbehaved.

import { errorBody, TwilioError } from './errors.mjs';

const ACCEPTS = {
  delay: true, hang: true, 'accept-then-drop': true, truncate: true, huge: true, 'bad-json': true, close: true,
  'drop-before': false, 429: false, 500: false, 503: false, html: false, status: false,
};

const HTML = '<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n';

export class Misbehaviours {
  constructor() { this.clear(); }

  clear() {
    this.orders = [];
    this.made = 0;
  }

  add(given) {
    const action = String(given.action);
    if (!(action in ACCEPTS)) throw new Error(`unknown action "${action}"; known: ${Object.keys(ACCEPTS).join(', ')}`);
    const match = given.match ?? {};
    this.made += 1;
    const order = {
      id: this.made,
      ...given,
      action,
      accept: given.accept ?? ACCEPTS[action],
      left: given.times ?? Infinity,
      used: 0,
      path: match.path === undefined ? null : new RegExp(match.path),
      body: match.body === undefined ? null : new RegExp(match.body),
    };
    this.orders.push(order);
    return { id: order.id };
  }

  remove(id) { this.orders = this.orders.filter((order) => order.id !== id); }

  list() { return this.orders.map(({ path, body, left, ...order }) => ({ ...order, left: left === Infinity ? null : left })); }

  // Returns the order for a request, and counts it as used.
  pick(exchange, account) {
    if (this.orders.length === 0) return null;
    for (const order of this.orders) {
      if (order.left <= 0) continue;
      const match = order.match ?? {};
      if (match.method !== undefined && match.method !== exchange.method) continue;
      if (match.account !== undefined && match.account !== account) continue;
      if (match.host !== undefined && match.host !== exchange.host) continue;
      if (order.path && !order.path.test(exchange.target)) continue;
      if (order.body && !order.body.test(exchange.body)) continue;
      if (order.probability !== undefined && Math.random() >= order.probability) continue;
      order.left -= 1;
      order.used += 1;
      return order;
    }
    return null;
  }
}

// The body that an order gives: bytes, a text or JSON.
function ownBody({ body_base64: base64, body_text: text, body_json: json }) {
  if (typeof base64 === 'string') return Buffer.from(base64, 'base64');
  return typeof text === 'string' ? text : JSON.stringify(json ?? {});
}

// Says what a refusing action answers: a status, a body and headers of its own.
function refusal(order) {
  if (order.action === 'html') return { status: order.status ?? 502, body: HTML, headers: { 'content-type': 'text/html' } };
  if (order.action === 'status') {
    return { status: order.status ?? 500, body: ownBody(order), headers: { 'content-type': 'application/json', ...order.headers } };
  }
  const code = { 429: 20429, 500: 20500, 503: 20503 }[order.action];
  const headers = { 'content-type': 'application/json' };
  if (order.retry_after !== undefined) headers['retry-after'] = String(order.retry_after);
  return { status: Number(order.action), body: JSON.stringify(errorBody(new TwilioError(code))), headers };
}

function huge(order) {
  return JSON.stringify({ padding: 'x'.repeat(order.bytes ?? 10 << 20) });
}

// Carries out an order on an exchange; `answer` is the honest {status, headers, body}. Returns the status sent, 0 for none.
export function misbehave(order, exchange, answer) {
  const headers = { ...answer.headers };
  switch (order.action) {
    case 'hang':
      return 0;
    case 'accept-then-drop':
    case 'drop-before':
      exchange.cut(order.only_stream);
      return 0;
    case 'truncate':
      exchange.truncate(answer.status, headers, answer.body, order.keep ?? Math.floor(answer.body.length / 2));
      return answer.status;
    case 'huge':
      exchange.respond(answer.status, headers, huge(order));
      return answer.status;
    case 'bad-json':
      exchange.respond(answer.status, headers, answer.body.slice(0, order.keep ?? Math.floor(answer.body.length / 2)));
      return answer.status;
    case 'delay':
      exchange.respond(answer.status, headers, answer.body);
      return answer.status;
    case 'close':
      exchange.respondAndClose(answer.status, headers, answer.body);
      return answer.status;
    default: {
      const refused = refusal(order);
      exchange.respond(refused.status, { ...headers, ...refused.headers }, refused.body);
      return refused.status;
    }
  }
}

// Webhooks to the application: built as Twilio builds them, signed by the official SDK, sent or handed out.
//
// The URL is signed and sent as the application gave it; only the TCP destination may be another one
// (`callback_to`), so that https://crm.example.com reaches a server on this machine.

import http from 'node:http';
import https from 'node:https';
import { randomUUID } from 'node:crypto';
import webhooks from 'twilio/lib/webhooks/webhooks.js';
import { stateOf } from './resources/messages.mjs';
import { decodePairs, encodePairs } from './parameters.mjs';

const TIMEOUT = 15_000;
const KEPT = 20_000;
const plain = new http.Agent({ keepAlive: true, maxSockets: 32 });
const secure = new https.Agent({ keepAlive: true, maxSockets: 32, rejectUnauthorized: false });

// Groups pairs as the SDK wants them: a repeated name has an array.
function grouped(pairs) {
  const params = Object.create(null);
  for (const [name, value] of pairs) {
    if (!(name in params)) params[name] = value;
    else if (Array.isArray(params[name])) params[name].push(value);
    else params[name] = [params[name], value];
  }
  return params;
}

function asPairs(params) {
  if (Array.isArray(params)) return params.map(([name, value]) => [name, String(value)]);
  return Object.entries(params ?? {}).flatMap(([name, value]) => [value].flat().map((one) => [name, String(one)]));
}

// Builds a signed request. `params`: object or pairs for a form or a GET query; `json`: text for a JSON body.
export function signedRequest(token, { url: given, params, json, method = 'POST' }) {
  let url = given.replace(/#.*$/, '').replace(/^(https?:\/\/)[^/@]*@/, '$1');
  const headers = {
    'user-agent': 'TwilioProxy/1.1', accept: '*/*', 'i-twilio-idempotency-token': randomUUID(), 'x-home-region': 'us1',
  };
  let body = '';
  let signed = {};
  if (json !== undefined) {
    body = typeof json === 'string' ? json : JSON.stringify(json);
    url += `${url.includes('?') ? '&' : '?'}bodySHA256=${webhooks.getExpectedBodyHash(body)}`;
    headers['content-type'] = 'application/json';
  } else if (method === 'GET') {
    const query = encodePairs(asPairs(params));
    if (query !== '') url += `${url.includes('?') ? '&' : '?'}${query}`;
  } else {
    const pairs = asPairs(params);
    body = encodePairs(pairs).replaceAll('%20', '+');
    signed = grouped(pairs);
    headers['content-type'] = 'application/x-www-form-urlencoded; charset=UTF-8';
  }
  headers['x-twilio-signature'] = webhooks.getExpectedTwilioSignature(token, url, signed);
  return { method, url, headers, body };
}

// The parameters of a message status callback.
export function statusParams(message, { status, error_code }) {
  const params = [
    ['ApiVersion', '2010-04-01'], ['AccountSid', message.account], ['MessageSid', message.sid], ['SmsSid', message.sid],
    ['MessageStatus', status], ['SmsStatus', status], ['To', message.to], ['From', message.from],
  ];
  if (message.service) params.push(['MessagingServiceSid', message.service]);
  if (error_code) params.push(['ErrorCode', String(error_code)]);
  if (status === 'delivered' || status === 'undelivered') {
    params.push(['RawDlrDoneDate', new Date().toISOString().replace(/\D/g, '').slice(2, 12)]);
  }
  return params;
}

export class Callbacks {
  constructor(callbackTo) {
    this.to = callbackTo;
    this.clear();
  }

  clear() {
    this.deliveries = [];
    this.waiting = 0;
    this.generation = (this.generation ?? 0) + 1;
  }

  // Sends the callbacks of a new message as it goes through its statuses.
  follow(account, message) {
    for (const step of message.steps) {
      if (step.after + message.begins - Date.now() > 3_600_000) continue;
      this.later(step.after + message.begins - Date.now() + account.callback_latency, () => {
        if (stateOf(message).status === 'canceled') return;
        return this.send(account, { url: message.callback, params: statusParams(message, step) });
      });
    }
  }

  // Sends one status of a message now, where the account wants callbacks at all.
  tell(account, message, state) {
    if (message.callback && account.callbacks === 'auto') this.later(account.callback_latency, () => this.send(account, { url: message.callback, params: statusParams(message, state) }));
  }

  // Runs `send` after some time unless the stand-in was reset meanwhile.
  later(millis, send) {
    const { generation } = this;
    this.waiting += 1;
    setTimeout(async () => {
      if (generation !== this.generation) return;
      await send();
      if (generation === this.generation) this.waiting -= 1;
    }, Math.max(millis, 0)).unref();
  }

  // Signs and sends; a connection that fails is tried once more, as Twilio does. Never rejects.
  async send(account, order) {
    const request = signedRequest(order.token ?? account.token, order);
    const delivery = { at: new Date().toISOString(), account: account.sid, url: request.url, method: request.method, params: decodePairs(request.body), attempts: 0, status: 0, answer: '', error: null };
    if (this.deliveries.length >= KEPT) this.deliveries.splice(0, KEPT / 2);
    this.deliveries.push(delivery);
    do {
      delivery.attempts += 1;
      try {
        Object.assign(delivery, await this.deliver(request), { error: null });
      } catch (error) {
        delivery.error = error.code ?? error.message;
      }
    } while (delivery.error !== null && delivery.attempts < 2);
    return delivery;
  }

  // Finds out where a URL's request really goes: {agent, module, options}.
  destination(url) {
    const forced = /^(?:(https?):\/\/)?(\[[^\]]+\]|[^:/]+):(\d+)\/?$/.exec(this.to ?? '');
    const scheme = forced?.[1] ?? url.protocol.slice(0, -1);
    const host = forced ? forced[2].replace(/^\[|\]$/g, '') : url.hostname;
    const port = forced ? Number(forced[3]) : url.port || (scheme === 'https' ? 443 : 80);
    return scheme === 'https'
      ? { module: https, options: { agent: secure, host, port, servername: url.hostname } }
      : { module: http, options: { agent: plain, host, port } };
  }

  deliver({ method, url: text, headers, body }) {
    const url = new URL(text);
    const { module, options } = this.destination(url);
    const rawTarget = text.replace(/^https?:\/\/[^/?]*/, '');
    return new Promise((resolve, reject) => {
      const request = module.request({
        ...options, method, path: rawTarget.startsWith('/') ? rawTarget : `/${rawTarget}`, timeout: TIMEOUT,
        headers: { ...headers, host: url.host, 'content-length': Buffer.byteLength(body) },
      }, (response) => {
        let answer = '';
        response.setEncoding('utf8');
        response.on('data', (part) => { if (answer.length < 4096) answer += part; });
        response.on('end', () => resolve({ status: response.statusCode, type: response.headers['content-type'] ?? null, answer }));
        response.on('error', reject);
      });
      request.on('timeout', () => request.destroy(Object.assign(new Error('timed out'), { code: 'TIMEOUT' })));
      request.on('error', reject);
      request.end(body);
    });
  }
}

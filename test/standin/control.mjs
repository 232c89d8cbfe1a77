// The control API: plain HTTP and JSON on 127.0.0.1, by which a test sets up accounts, orders misbehaviour
// and reads the ledger. Its routes are described in README.md.

import http from 'node:http';
import { signedRequest, statusParams } from './callbacks.mjs';
import { receive } from './inbound.mjs';

function readJson(request) {
  return new Promise((resolve, reject) => {
    let text = '';
    request.setEncoding('utf8');
    request.on('data', (part) => { text += part; });
    request.on('end', () => {
      try {
        resolve(text === '' ? {} : JSON.parse(text));
      } catch (error) {
        reject(error);
      }
    });
    request.on('error', reject);
  });
}

function describe(account) {
  return {
    sid: account.sid,
    status: account.status,
    type: account.type,
    numbers: [...account.numbers.keys()],
    keys: [...account.keys.keys()],
    messages: account.messages.made,
    opt_outs: [...account.optOuts],
  };
}

function stats(world, transport) {
  const { front, accounts } = world;
  return {
    requests: front.requests,
    in_flight: front.inFlight,
    max_in_flight: front.maxInFlight,
    connections_opened: transport.opened,
    connections_open: transport.connections.size,
    faults: world.faults,
    accounts: Object.fromEntries([...accounts.bySid.values()].map((account) => [account.sid,
      { in_flight: account.inFlight, max_in_flight: account.maxInFlight, messages: account.messages.made }])),
  };
}

function resetStats(world, transport) {
  world.front.requests = 0;
  world.front.maxInFlight = world.front.inFlight;
  transport.opened = 0;
  for (const account of world.accounts.bySid.values()) account.maxInFlight = account.inFlight;
  return {};
}

async function setListener(transport, state) {
  if (state === 'cut') transport.cutAll();
  else if (state === 'closed') await transport.close();
  else if (state === 'open' && !transport.server.listening) await transport.listen(transport.port);
  else if (state !== 'open') throw new Error('state must be open, closed or cut');
  return { listening: transport.server.listening };
}

function need(found, what) {
  if (found === null || found === undefined) throw new Error(`no such ${what}`);
  return found;
}

// Finds what a callback order is about: a message with its own StatusCallback, or any URL and parameters.
function callbackOrder(world, order) {
  const account = need(world.accounts.bySid.get(order.account), 'account');
  if (order.message === undefined) return { account, order: { ...order, url: need(order.url, 'url') } };
  const message = need(account.messages.get(order.message), 'message');
  const params = [...statusParams(message, { status: order.status, error_code: order.error_code }), ...Object.entries(order.params ?? {})];
  return { account, order: { ...order, url: need(order.url ?? message.callback, 'url'), params } };
}

// Sends a signed request when the order says so, else hands it out.
async function sendOrReturn(world, account, order) {
  if (order.send) return world.callbacks.send(account, order);
  return signedRequest(order.token ?? account.token, order);
}

async function inbound(world, order) {
  const account = need(world.accounts.bySid.get(order.account), 'account');
  const { sid, url, params } = receive(account, order);
  return { sid, ...await sendOrReturn(world, account, { ...order, url: need(url, 'url'), params }) };
}

// The routes: "METHOD first-segment" → function of (rest of the path, query, body).
function routes(world, transport) {
  const { ledger, misbehaviours, accounts } = world;
  return {
    'POST accounts': (rest, query, body) => describe(world.accounts.put(body)),
    'PATCH accounts': (sid, query, body) => describe(need(world.accounts.change(sid, body), 'account')),
    'GET accounts': (sid) => (sid ? describe(need(world.accounts.bySid.get(sid), 'account')) : [...world.accounts.bySid.values()].map(describe)),
    'POST behave': (rest, query, body) => misbehaviours.add(body),
    'GET behave': () => misbehaviours.list(),
    'DELETE behave': (id) => { if (id) misbehaviours.remove(Number(id)); else misbehaviours.clear(); return {}; },
    'POST fates': (rest, query, body) => world.fates.add(body),
    'DELETE fates': () => { world.fates.clear(); return {}; },
    'POST callback': (rest, query, body) => { const { account, order } = callbackOrder(world, body); return sendOrReturn(world, account, order); },
    'GET callbacks': (rest, query) => ({ waiting: world.callbacks.waiting,
      deliveries: world.callbacks.deliveries.filter((delivery) => query.account === undefined || delivery.account === query.account) }),
    'DELETE callbacks': () => { world.callbacks.clear(); return {}; },
    'POST inbound': (rest, query, body) => inbound(world, body),
    'POST settings': (rest, query, body) => { if ('callback_to' in body) world.callbacks.to = body.callback_to; return { callback_to: world.callbacks.to ?? null }; },
    'GET ledger': (rest, query) => {
      if (rest === 'count') return { count: ledger.countMatching(query) };
      if (rest === 'duplicates') return ledger.duplicates((query.key ?? 'To,Body').split(','), { ...query, key: undefined });
      return ledger.list(query);
    },
    'DELETE ledger': () => { ledger.clear(); return {}; },
    'GET mismatches': () => ({ enabled: world.conformance.enabled, count: world.conformance.count, mismatches: world.conformance.kept }),
    'DELETE mismatches': () => { world.conformance.clear(); return {}; },
    'GET stats': () => stats(world, transport),
    'DELETE stats': () => resetStats(world, transport),
    'POST listener': (rest, query, body) => setListener(transport, body.state),
    'POST reset': () => { world.reset(); return {}; },
  };
}

export function controlServer(world, transport) {
  const table = routes(world, transport);
  return http.createServer(async (request, response) => {
    const url = new URL(request.url, 'http://control');
    const [, head, ...rest] = url.pathname.split('/');
    const route = table[`${request.method} ${head}`];
    let status = 200;
    let answer;
    try {
      if (!route) throw Object.assign(new Error(`no such control: ${request.method} ${url.pathname}`), { status: 404 });
      answer = await route(decodeURIComponent(rest.join('/')), Object.fromEntries(url.searchParams), await readJson(request));
    } catch (error) {
      status = error.status ?? 400;
      answer = { error: error.message };
    }
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(answer));
  });
}

// What happens to one request: find out who asks for what, do it, write it down, check it, answer or misbehave.

import { credentials } from './accounts.mjs';
import { errorBody, notFound, TwilioError } from './errors.mjs';
import { newSid } from './identifiers.mjs';
import { misbehave } from './misbehaviour.mjs';
import { decodePairs } from './parameters.mjs';

const OPEN_TO_TESTS = /(Messages|Calls|IncomingPhoneNumbers)\.json$/;
const isJson = (exchange) => (exchange.headers['content-type'] ?? '').startsWith('application/json');
const ACCOUNT_IN_PATH = /^\/2010-04-01\/Accounts\/(AC[0-9a-fA-F]{32})/;

export class Front {
  constructor(world) {
    this.world = world;
    this.requests = 0;
    this.inFlight = 0;
    this.maxInFlight = 0;
  }

  handle(exchange) {
    this.guarded(exchange, () => {
      const [user] = credentials(exchange.headers.authorization);
      const named = this.accountNamed(exchange, user);
      this.enter(exchange, named);
      const order = this.world.misbehaviours.pick(exchange, named?.sid);
      const serve = () => this.serve(exchange, order, user, named);
      if (order?.late) setTimeout(() => this.guarded(exchange, serve), order.late);
      else serve();
    });
  }

  guarded(exchange, action) {
    try {
      action();
    } catch (error) {
      this.world.faults.push(String(error.stack));
      exchange.cut();
    }
  }

  serve(exchange, order, user, named) {
    const started = performance.now();
    const { ledger, conformance } = this.world;
    const done = this.recognize(exchange);
    if (!order || order.accept) this.perform(exchange, done);
    const n = ledger.add(exchange, { account: named?.sid, user, accepted: done.accepted, sid: done.sid });
    conformance.check(n, exchange, done);
    const answer = () => this.answer(exchange, order, done, named, n, started);
    if (order?.ms) setTimeout(answer, order.ms);
    else answer();
  }

  // Finds the account that a request is about: the one in the path, else the one whose credentials it uses.
  accountNamed(exchange, user) {
    const { accounts } = this.world;
    const inPath = ACCOUNT_IN_PATH.exec(exchange.target);
    return accounts.bySid.get(inPath ? inPath[1] : user) ?? accounts.accountOfKey.get(user);
  }

  enter(exchange, account) {
    this.requests += 1;
    this.inFlight += 1;
    if (this.inFlight > this.maxInFlight) this.maxInFlight = this.inFlight;
    if (account) {
      account.inFlight += 1;
      if (account.inFlight > account.maxInFlight) account.maxInFlight = account.inFlight;
    }
    exchange.onClose(() => {
      this.inFlight -= 1;
      if (account) account.inFlight -= 1;
    });
  }

  // Finds the operation and reads its parameters, into the record of what is done about a request. A refusal is
  // only noted, for it is told to nobody who may not ask at all.
  recognize(exchange) {
    const question = exchange.target.indexOf('?');
    const path = question < 0 ? exchange.target : exchange.target.slice(0, question);
    const query = question < 0 ? [] : decodePairs(exchange.target.slice(question + 1));
    const done = { status: 0, body: '', accepted: false, sid: undefined, path, query, form: null, json: undefined, route: null, args: null, refusal: null };
    try {
      const { route, args } = this.world.router.find(exchange.host, exchange.method, path);
      done.route = route;
      done.args = args;
      if (isJson(exchange)) done.json = JSON.parse(exchange.body);
      else done.form = decodePairs(exchange.body);
    } catch (error) {
      done.refusal = error instanceof SyntaxError ? new TwilioError(20001, 'The request body is not JSON') : error;
    }
    return done;
  }

  // Does what was asked, and notes the honest answer, a refusal like a success.
  perform(exchange, done) {
    const { world } = this;
    try {
      const { account, key } = world.accounts.authenticate(exchange.headers.authorization);
      if (done.refusal) throw done.refusal;
      const { path, query, form, json, args } = done;
      const result = done.route.handler({ world, account: this.authorize(done, account, key), path, query, form, json, args });
      done.status = result.status ?? 200;
      done.body = result.body === undefined ? '' : JSON.stringify(result.body);
      done.sid = result.sid;
      done.accepted = true;
    } catch (error) {
      if (!(error instanceof TwilioError)) throw error;
      done.status = error.status;
      done.body = JSON.stringify(errorBody(error));
    }
  }

  // Checks that these credentials may use this account and resource; returns the account that is meant.
  authorize({ route, path }, account, key) {
    if (account.concurrency_limit > 0 && account.inFlight > account.concurrency_limit) throw new TwilioError(20429);
    if (account.status !== 'active' && account.suspended_as !== 'readable') throw new TwilioError(account.suspended_as);
    if (key?.standard && !route.standardKeyAllowed) throw new TwilioError(20003);
    if (account.test && !(route.method === 'POST' && OPEN_TO_TESTS.test(path))) throw new TwilioError(20008);
    const sid = ACCOUNT_IN_PATH.exec(path)?.[1];
    if (sid === undefined || sid === account.sid) return account;
    const subaccount = this.world.accounts.bySid.get(sid);
    if (key || subaccount?.owner_account_sid !== account.sid) throw notFound(path);
    return subaccount;
  }

  answer(exchange, order, done, account, n, started) {
    const headers = {
      'content-type': 'application/json',
      'twilio-request-id': newSid('RQ'),
      'twilio-concurrent-requests': String(account?.inFlight ?? 1),
      'twilio-request-duration': ((performance.now() - started) / 1000).toFixed(3),
      'x-home-region': 'us1',
      'x-api-domain': 'api.twilio.com',
    };
    const honest = { status: done.status, headers, body: done.body };
    let status = done.status;
    if (order) status = misbehave(order, exchange, honest);
    else exchange.respond(status, headers, done.body);
    this.world.ledger.answered(n, status);
  }
}

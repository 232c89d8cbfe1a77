// The accounts the stand-in knows: credentials, phone numbers, opt-outs, and what each account holds.

import { newSid, phoneNumber, seededSid } from './identifiers.mjs';
import { MessageStore } from './message_store.mjs';
import { TwilioError } from './errors.mjs';

const SETTABLE = ['token', 'friendly_name', 'type', 'status', 'suspended_as', 'owner_account_sid', 'any_from', 'test', 'balance',
  'concurrency_limit', 'callbacks', 'callback_latency', 'life', 'messaging_services', 'verified_numbers'];

// When a message changes its status, in milliseconds after its creation.
const USUAL_LIFE = { queued_after: 5, sent_after: 40, delivered_after: 80, price_after: 120 };

export class Account {
  constructor(given) {
    this.sid = given.sid;
    this.token = '';
    this.friendly_name = 'Stand-in account';
    this.type = 'Full';
    this.status = 'active';
    this.suspended_as = 20003;
    this.owner_account_sid = given.sid;
    this.any_from = false;
    this.test = false;
    this.balance = '100.00';
    this.concurrency_limit = 0;
    this.callbacks = 'auto';
    this.callback_latency = 0;
    this.life = USUAL_LIFE;
    this.messaging_services = [];
    this.verified_numbers = [];
    this.created = Date.now();
    this.inFlight = 0;
    this.maxInFlight = 0;
    this.keys = new Map();
    this.numbers = new Map();        // phone number → resource
    this.numbersBySid = new Map();
    this.optOuts = new Set();        // "from>to", "*>to" for every sender
    this.messages = new MessageStore();
    this.calls = [];
    this.callsBySid = new Map();
    this.recordings = [];
    this.portIns = new Map();
    this.change(given);
  }

  // Takes over what a control request gives; unknown members are refused so that a typing error shows.
  change(given) {
    for (const [name, value] of Object.entries(given)) {
      if (name === 'sid') continue;
      else if (name === 'numbers') this.setNumbers(value);
      else if (name === 'keys') for (const key of value) this.keys.set(key.sid, { standard: true, ...key });
      else if (name === 'drop_keys') for (const sid of value) this.keys.delete(sid);
      else if (name === 'opt_outs') for (const pair of value) this.optOut(pair.from ?? '*', pair.to ?? pair, pair.opted_out ?? true);
      else if (name === 'life') this.life = { ...USUAL_LIFE, ...value };
      else if (SETTABLE.includes(name)) this[name] = value;
      else throw new Error(`an account has no "${name}"`);
    }
  }

  setNumbers(given) {
    this.numbers.clear();
    this.numbersBySid.clear();
    if (typeof given === 'number') {
      for (let n = 0; n < given; n += 1) this.addNumber({ phone_number: phoneNumber(this.sid, n) });
    } else {
      for (const number of given) this.addNumber(typeof number === 'string' ? { phone_number: number } : number);
    }
  }

  addNumber(given) {
    const number = {
      sid: given.sid ?? seededSid('PN', this.sid + given.phone_number),
      phone_number: given.phone_number,
      friendly_name: given.friendly_name ?? given.phone_number,
      capabilities: { voice: true, sms: true, mms: true, fax: false, ...given.capabilities },
      created: Date.now(),
      updated: Date.now(),
      changes: { ...given.changes },
    };
    for (const name of ['sms_url', 'sms_application_sid', 'voice_url', 'status_callback']) if (given[name] !== undefined) number.changes[name] = given[name];
    this.numbers.set(number.phone_number, number);
    this.numbersBySid.set(number.sid, number);
    return number;
  }

  optOut(from, to, optedOut) {
    if (optedOut) this.optOuts.add(`${from}>${to}`);
    else this.optOuts.delete(`${from}>${to}`);
  }

  hasOptedOut(from, to) {
    return this.optOuts.size > 0 && (this.optOuts.has(`${from}>${to}`) || this.optOuts.has(`*>${to}`));
  }
}

export class Accounts {
  constructor() {
    this.bySid = new Map();
    this.accountOfKey = new Map();
  }

  put(given) {
    if (!/^AC[0-9a-fA-F]{32}$/.test(given.sid ?? '')) throw new Error('sid must be AC and 32 hex digits');
    const account = new Account(given);
    this.bySid.set(account.sid, account);
    this.indexKeys(account);
    return account;
  }

  change(sid, given) {
    const account = this.bySid.get(sid);
    if (!account) return null;
    account.change(given);
    this.indexKeys(account);
    return account;
  }

  indexKeys(account) {
    for (const [sid, owner] of this.accountOfKey) if (owner === account) this.accountOfKey.delete(sid);
    for (const sid of account.keys.keys()) this.accountOfKey.set(sid, account);
  }

  // Creates an API key, as POST Keys.json does.
  addKey(account, friendlyName) {
    const key = { sid: newSid('SK'), secret: newSid(''), standard: true, friendly_name: friendlyName };
    account.keys.set(key.sid, key);
    this.accountOfKey.set(key.sid, account);
    return key;
  }

  // Returns the account and key that Basic credentials belong to; wrong ones are error 20003.
  authenticate(authorization) {
    const [user, password] = credentials(authorization);
    if (user.startsWith('SK')) {
      const account = this.accountOfKey.get(user);
      const key = account?.keys.get(user);
      if (!key || key.secret !== password) throw new TwilioError(20003);
      return { account, key };
    }
    const account = this.bySid.get(user);
    if (!account || account.token !== password) throw new TwilioError(20003);
    return { account, key: null };
  }
}

let lastHeader = '';
let lastPair = ['', ''];

// Decodes a Basic header into user and password; anything else is empty.
export function credentials(authorization) {
  if (authorization === undefined || !authorization.startsWith('Basic ')) return ['', ''];
  if (authorization === lastHeader) return lastPair;
  const text = Buffer.from(authorization.slice(6), 'base64').toString('utf8');
  const colon = text.indexOf(':');
  lastHeader = authorization;
  lastPair = colon < 0 ? [text, ''] : [text.slice(0, colon), text.slice(colon + 1)];
  return lastPair;
}

// The ledger: every request that arrived whole, in order, with what became of it.
//
// A load test writes a million entries, so an entry is text in a large buffer and three numbers in typed
// arrays, outside the garbage collector's sight; it is parsed when somebody asks.

import { decodePairs, first } from './parameters.mjs';

const CHUNK = 8 << 20;
const SEPARATOR = '\u0001';

export class Ledger {
  constructor() { this.clear(); }

  clear() {
    this.chunks = [];
    this.used = CHUNK;
    this.count = 0;
    this.capacity = 4096;
    this.place = new Float64Array(this.capacity);
    this.size = new Uint32Array(this.capacity);
    this.time = new Float64Array(this.capacity);
    this.status = new Int16Array(this.capacity);
    this.accepted = new Uint8Array(this.capacity);
  }

  grow() {
    this.capacity *= 2;
    for (const name of ['place', 'size', 'time', 'status', 'accepted']) {
      const wider = new this[name].constructor(this.capacity);
      wider.set(this[name]);
      this[name] = wider;
    }
  }

  // Writes an entry and returns its number, counted from 1. `accepted`: Twilio did what was asked.
  add(exchange, { account, user, accepted, sid }) {
    if (this.count === this.capacity) this.grow();
    const text = [exchange.method, exchange.host, exchange.target, account ?? '', user, exchange.http, sid ?? '', exchange.body].join(SEPARATOR);
    const most = text.length * 3;
    if (this.used + most > CHUNK) {
      this.chunks.push(Buffer.allocUnsafe(Math.max(CHUNK, most)));
      this.used = 0;
    }
    const chunk = this.chunks.length - 1;
    const n = this.count;
    const size = this.chunks[chunk].write(text, this.used, 'utf8');
    this.place[n] = chunk * 2 ** 32 + this.used;
    this.size[n] = size;
    this.time[n] = Date.now();
    this.accepted[n] = accepted ? 1 : 0;
    this.used += size;
    this.count += 1;
    return this.count;
  }

  // Notes the status that was answered; it stays 0 while nothing was.
  answered(n, status) { if (n <= this.count) this.status[n - 1] = status; }

  fields(index) {
    const place = this.place[index];
    const chunk = Math.floor(place / 2 ** 32);
    const start = place - chunk * 2 ** 32;
    const parts = this.chunks[chunk].toString('utf8', start, start + this.size[index]).split(SEPARATOR);
    return parts.length > 8 ? [...parts.slice(0, 7), parts.slice(7).join(SEPARATOR)] : parts;
  }

  entry(index) {
    const [method, host, target, account, user, http, sid, body] = this.fields(index);
    const question = target.indexOf('?');
    const entry = {
      n: index + 1,
      at: new Date(this.time[index]).toISOString(),
      method,
      host,
      path: question < 0 ? target : target.slice(0, question),
      query: question < 0 ? [] : decodePairs(target.slice(question + 1)),
      account: account || null,
      user: user || null,
      http,
      status: this.status[index],
      accepted: this.accepted[index] === 1,
      sid: sid || null,
    };
    if (body.startsWith('{')) Object.assign(entry, { params: [], body });
    else entry.params = decodePairs(body);
    return entry;
  }

  // Visits the indexes that a filter names: {account, method, path, host, user, status, accepted, since, to, from, body}.
  * matching(filter) {
    const path = filter.path === undefined ? null : new RegExp(filter.path);
    const plain = ['account', 'method', 'host', 'user'].filter((name) => filter[name] !== undefined);
    const columns = { method: 0, host: 1, account: 3, user: 4 };
    for (let index = Number(filter.since ?? 0); index < this.count; index += 1) {
      if (filter.status !== undefined && this.status[index] !== Number(filter.status)) continue;
      if (filter.accepted !== undefined && this.accepted[index] !== (filter.accepted === 'true' ? 1 : 0)) continue;
      const fields = this.fields(index);
      if (!plain.every((name) => fields[columns[name]] === filter[name])) continue;
      if (path && !path.test(fields[2])) continue;
      if (!this.paramsMatch(fields[7], filter)) continue;
      yield index;
    }
  }

  paramsMatch(body, filter) {
    if (filter.to === undefined && filter.from === undefined && filter.body === undefined) return true;
    const pairs = decodePairs(body);
    return (filter.to === undefined || first(pairs, 'To') === filter.to)
      && (filter.from === undefined || first(pairs, 'From') === filter.from)
      && (filter.body === undefined || first(pairs, 'Body') === filter.body);
  }

  list(filter) {
    const most = Number(filter.limit ?? 10000);
    const entries = [];
    for (const index of this.matching(filter)) {
      if (entries.length === most) break;
      entries.push(this.entry(index));
    }
    return entries;
  }

  countMatching(filter) {
    let count = 0;
    for (const _ of this.matching(filter)) count += 1;
    return count;
  }

  // Groups accepted requests by the values of some parameters: how many groups, and which came more than once.
  duplicates(names, filter) {
    const seen = new Map();
    let requests = 0;
    for (const index of this.matching({ accepted: 'true', ...filter })) {
      const fields = this.fields(index);
      const pairs = decodePairs(fields[7]);
      const key = [fields[3], ...names.map((name) => first(pairs, name) ?? '')].join(SEPARATOR);
      seen.set(key, (seen.get(key) ?? 0) + 1);
      requests += 1;
    }
    const repeated = [...seen].filter(([, times]) => times > 1);
    return {
      requests,
      distinct: seen.size,
      repeated: repeated.length,
      extra: requests - seen.size,
      examples: repeated.slice(0, 10).map(([key, times]) => ({ values: key.split(SEPARATOR).slice(1), times })),
    };
  }
}

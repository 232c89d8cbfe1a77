// The figures of a run: lines `name value`, a line for each time that one was measured.
import fs from 'node:fs';

export class Figures {
  #values = new Map();

  constructor(file) {
    for (const line of fs.readFileSync(file, 'utf8').trim().split('\n')) {
      const [name, value] = line.split(' ');
      this.#values.set(name, [...(this.#values.get(name) ?? []), Number(value)]);
    }
  }

  has = (name) => this.#values.has(name);
  all = (name) => this.#values.get(name) ?? [];
  rounds = () => Math.max(...[...this.#values.values()].map((values) => values.length));

  median = (name) => {
    const values = [...this.all(name)].sort((a, b) => a - b);
    const [below, above] = [values[(values.length - 1) >> 1], values[values.length >> 1]];
    return values.length === 0 ? null : (below + above) / 2;
  };
  total = (name) => (this.has(name) ? this.all(name).reduce((sum, value) => sum + value) : null);
  ratio = (a, b) => (this.has(a) && this.has(b) ? this.median(a) / this.median(b) : null);
}

export const shown = (value, digits = 0) =>
  value === null ? '–' : value.toLocaleString('en', { maximumFractionDigits: digits, minimumFractionDigits: digits });

// Where messages are sent to, and who sends them there: [title, name of the figures, goal of pg_twilio's rate to its].
const ceilings = (way) => [
  ['ceiling, same SQL', `${way}.same`, '≥ 0.6'],
  ['ceiling, bare queue', `${way}.bare`],
];
const peers = (way, goal) => [
  ['graphile-worker', `${way}.graphile_worker`, goal],
  ['pg-boss', `${way}.pg_boss`],
];
export const ways = [
  { title: 'at once, HTTP/1.1, 64 in flight', ours: 'send.0ms.h1', others: [...ceilings('send.0ms.h1'), ...peers('send.0ms', '≥ 4')] },
  { title: 'at once, HTTP/2, 64 in flight', ours: 'send.0ms.h2', others: ceilings('send.0ms.h2') },
  {
    title: 'after 100 ms, HTTP/2 (peers: HTTP/1.1), 500 in flight',
    ours: 'send.100ms.500.h2',
    others: [...ceilings('send.100ms.500.h2'), ...peers('send.100ms.500', '≥ 2.7')],
  },
  {
    title: 'after 100 ms, HTTP/2 (peers: HTTP/1.1), 1,000 in flight',
    ours: 'send.100ms.1000.h2',
    others: [...ceilings('send.100ms.1000.h2'), ...peers('send.100ms.1000', '≥ 2.7')],
  },
  { title: 'after 100 ms, HTTP/2, 64 in flight', ours: 'send.100ms.64.h2', others: ceilings('send.100ms.64.h2') },
];

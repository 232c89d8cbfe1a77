// How a message or a call goes on after its creation: the statuses it passes and when.
//
// Nothing runs in the background for it: a status is computed from the clock when somebody looks. A test may
// give fates: "the next two messages to this number end as undelivered with 30003".

const ERROR_TEXT = {
  21610: 'Attempt to send to unsubscribed recipient',
  30001: 'Queue overflow',
  30002: 'Account suspended',
  30003: 'Unreachable destination handset',
  30004: 'Message blocked',
  30005: 'Unknown destination handset',
  30006: 'Landline or unreachable carrier',
  30007: 'Message filtered',
  30008: 'Unknown error',
  30034: 'Message from an Unregistered Number',
};

export function errorText(code) { return code ? ERROR_TEXT[code] ?? 'Unknown error' : null; }

// Returns the last step that the clock has reached, or null.
export function stepAt(steps, since, now) {
  const age = now - since;
  let reached = null;
  for (const step of steps) {
    if (step.after > age) break;
    reached = step;
  }
  return reached;
}

// The steps of messages without a fate, which are the same for all: one list for each life.
const usualSteps = new WeakMap();

// The steps of an outbound message. `final` may be delivered, undelivered, failed, sent (no receipt), queued (stuck), read.
export function messageSteps(life, fate, byService) {
  if (fate) return makeMessageSteps(life, fate.status ?? 'delivered', fate.error_code ?? null, byService);
  if (!usualSteps.has(life)) usualSteps.set(life, [false, true].map((service) => makeMessageSteps(life, 'delivered', null, service)));
  return usualSteps.get(life)[byService ? 1 : 0];
}

function makeMessageSteps(life, final, error_code, byService) {
  const steps = byService ? [{ after: life.queued_after, status: 'queued' }] : [];
  if (final === 'queued') return steps;
  if (final === 'failed') return [...steps, { after: life.sent_after, status: 'failed', error_code }];
  steps.push({ after: life.sent_after, status: 'sent' });
  if (final !== 'sent') steps.push({ after: life.delivered_after, status: final === 'read' ? 'delivered' : final, error_code });
  if (final === 'read') steps.push({ after: life.delivered_after + 20, status: 'read' });
  return steps;
}

// The steps of an outbound call. `final` may be completed, busy, no-answer, failed, canceled, or in-progress (never ends).
export function callSteps(life, fate) {
  const final = fate?.status ?? 'completed';
  const error_code = fate?.error_code ?? null;
  const unit = life.sent_after;
  if (final === 'failed') return [{ after: unit, status: 'failed', error_code }];
  const steps = [{ after: unit / 2, status: 'initiated', hidden: true }, { after: unit, status: 'ringing' }];
  if (final === 'busy' || final === 'no-answer' || final === 'canceled') return [...steps, { after: unit * 2, status: final }];
  steps.push({ after: unit * 2, status: 'in-progress' });
  if (final !== 'in-progress') steps.push({ after: unit * 4, status: 'completed' });
  return steps;
}

// Fates that wait for their message or call.
export class Fates {
  constructor() { this.clear(); }

  clear() { this.waiting = []; }

  add({ match = {}, status, error_code, times }) {
    this.waiting.push({ match, body: match.body === undefined ? null : new RegExp(match.body), status, error_code, left: times ?? Infinity });
    return { waiting: this.waiting.length };
  }

  pick(account, to, from, body) {
    for (const fate of this.waiting) {
      if (fate.left <= 0) continue;
      const { match } = fate;
      if (match.account !== undefined && match.account !== account.sid) continue;
      if (match.to !== undefined && match.to !== to) continue;
      if (match.from !== undefined && match.from !== from) continue;
      if (fate.body && !fate.body.test(body)) continue;
      fate.left -= 1;
      return fate;
    }
    return null;
  }
}

// The messages of one account, in order of creation, found by SID.
//
// A load test makes more of them than anybody looks at, so the oldest are forgotten, one for each new one:
// there is never a pause to tidy up.

const KEPT = 100_000;

export class MessageStore {
  constructor() {
    this.inOrder = [];
    this.oldest = 0;                 // where the first one that is not forgotten stands
    this.bySid = new Map();
    this.byTo = new Map();
    this.made = 0;
  }

  add(message) {
    this.inOrder.push(message);
    this.bySid.set(message.sid, message);
    if (!this.byTo.has(message.to)) this.byTo.set(message.to, []);
    this.byTo.get(message.to).push(message);
    this.made += 1;
    if (this.inOrder.length - this.oldest > KEPT) this.forgetOldest();
  }

  forgetOldest() {
    const { sid, to } = this.inOrder[this.oldest];
    this.bySid.delete(sid);
    this.byTo.get(to).shift();
    this.inOrder[this.oldest] = null;
    this.oldest += 1;
    if (this.oldest < KEPT) return;
    this.inOrder = this.inOrder.slice(this.oldest);
    this.oldest = 0;
  }

  get(sid) { return this.bySid.get(sid); }

  remove(message) {
    message.deleted = true;
    this.bySid.delete(message.sid);
  }

  // Returns the messages, to one number or to any, that a condition holds for, newest first.
  newestFirst(condition, to) {
    const found = [];
    const [messages, oldest] = to === undefined ? [this.inOrder, this.oldest] : [this.byTo.get(to) ?? [], 0];
    for (let n = messages.length - 1; n >= oldest; n -= 1) {
      const message = messages[n];
      if (!message.deleted && condition(message)) found.push(message);
    }
    return found;
  }
}

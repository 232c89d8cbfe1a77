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
    this.made = 0;
  }

  add(message) {
    this.inOrder.push(message);
    this.bySid.set(message.sid, message);
    this.made += 1;
    if (this.inOrder.length - this.oldest > KEPT) this.forgetOldest();
  }

  forgetOldest() {
    this.bySid.delete(this.inOrder[this.oldest].sid);
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

  // Returns the messages that a condition holds for, newest first.
  newestFirst(condition) {
    const found = [];
    for (let n = this.inOrder.length - 1; n >= this.oldest; n -= 1) {
      const message = this.inOrder[n];
      if (!message.deleted && condition(message)) found.push(message);
    }
    return found;
  }
}

// Made-up values that look like Twilio's: SIDs, dates in the two spellings, phone numbers.

import { createHash, randomBytes } from 'node:crypto';

const start = randomBytes(10).toString('hex');
let made = 0;

// Returns a new SID with the given prefix: unlike in each run, in order within one.
export function newSid(prefix) {
  made += 1;
  return prefix + start + made.toString(16).padStart(12, '0');
}

// Returns the same SID each time for the same seed.
export function seededSid(prefix, seed) {
  return prefix + createHash('md5').update(seed).digest('hex');
}

let lastSecond = -1;
let lastText = '';

// Spells a time as the api host does: Thu, 24 Aug 2023 05:01:45 +0000.
export function rfc2822(millis) {
  const second = Math.floor(millis / 1000);
  if (second !== lastSecond) {
    lastSecond = second;
    lastText = `${new Date(second * 1000).toUTCString().slice(0, -3)}+0000`;
  }
  return lastText;
}

// Spells a time as the newer hosts do: 2023-09-10T06:52:21Z.
export function iso8601(millis) {
  return `${new Date(millis).toISOString().slice(0, 19)}Z`;
}

// Returns the n-th phone number of a seed, a valid number of the United States.
export function phoneNumber(seed, n) {
  const area = 201 + (createHash('md5').update(seed).digest().readUInt16BE(0) % 700);
  return `+1${area}${String(2000000 + n).slice(-7)}`;
}

export const E164 = /^\+[1-9]\d{6,14}$/;

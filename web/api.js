// Requests to the database's REST interface. A refusal becomes a Refusal with the server's own sentence.

import { signOut, token, userOfToken } from './session.js';

const PART = 1000; // db-max-rows of deploy/postgrest.conf
// Names of columns, SQL and HTTP are for developers, and so are the details that PostgREST itself gives.
const TECHNICAL = /\b(SELECT|INSERT|UPDATE|PUT|SET LOCAL)\b|[a-z]_[a-z]/;

// What nginx itself answers, by its code; its own words name programs and logs.
const AWAY = ['The server is not available at the moment', 'Try again in a minute'];
const PLAIN = { 502: AWAY, 503: AWAY, 504: ['The server takes too long', 'It may be done yet: look first'] };

export class Refusal extends Error {
  constructor(status, answer) {
    super(answer?.message ?? `The server answered with status ${status}.`);
    this.status = status;
    this.code = answer?.code ?? '';
    this.details = answer?.details ?? '';
    this.hint = answer?.hint ?? '';
  }

  // One or two sentences for people. What a field must be is in the details, whatever they call the field; what went wrong
  // between servers is in the message, and its details are for developers.
  get sentence() {
    const [message, hint] = PLAIN[this.code] ?? [this.message, this.hint];
    const plain =
      this.details &&
      !/^PGRST/.test(this.code) &&
      (this.status === 400 || (this.status < 429 && !TECHNICAL.test(this.details)));
    const parts = [plain ? this.details : message.replace(/^./, (first) => first.toUpperCase())];
    if (hint && !TECHNICAL.test(hint)) parts.push(hint);
    return parts.map((part) => (/[.!?…]$/.test(part) ? part : `${part}.`)).join(' ');
  }
}

async function send(method, path, body) {
  try {
    return await fetch(`/api/${path}`, {
      method,
      headers: {
        Authorization: `Bearer ${token()}`,
        ...(body !== undefined && { 'Content-Type': 'application/json' }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: 'no-store',
    });
  } catch {
    throw new Refusal(0, { message: 'The server cannot be reached', hint: 'Check your connection and try again.' });
  }
}

export async function request(method, path, body) {
  const used = token();
  const user = userOfToken();
  const response = await send(method, path, body);
  const answer = response.status === 204 ? null : await response.json().catch(() => undefined);
  // A late answer belongs to a session that is over: it neither shows nor ends anything.
  if (userOfToken() !== user) throw new Refusal(401, null);
  if (response.ok && answer === undefined)
    throw new Refusal(0, {
      message: "The server's answer cannot be read",
      hint: 'Try again; if it lasts, something stands between you and the server.',
    });
  if (response.ok) return answer;
  if (response.status === 401) {
    // The app may have renewed the token meanwhile.
    if (token() !== used && token() !== '') return request(method, path, body);
    const expired = /expired/i.test(answer?.message);
    signOut(
      expired
        ? 'Your session has ended. Sign in again in the app, or enter a new token.'
        : 'The server does not accept this token. Sign in again in the app, or enter another one.',
    );
  }
  throw new Refusal(response.status, answer);
}

export const get = (path) => request('GET', path);
export const post = (path, body) => request('POST', path, body);
export const put = (path, body) => request('PUT', path, body);
// All rows of a list, or the first `limit`: the server gives them in parts.
export async function getRows(path, limit = Infinity) {
  const rows = [];
  for (;;) {
    const asked = Math.min(limit - rows.length, PART);
    const part = await get(`${path}&limit=${asked}&offset=${rows.length}`);
    rows.push(...part);
    if (part.length < asked || rows.length >= limit) return rows;
  }
}
export const remove = (path) => request('DELETE', path);

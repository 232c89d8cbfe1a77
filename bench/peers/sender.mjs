// What both queues do with a job: send the message with Twilio's SDK, over sockets that are kept, and record what came of
// it in `messages`. Results are recorded many at once, as pg_twilio does; a job is done when its result is committed.
// A job that is tried again is not sent again where its result is recorded.
import fs from 'node:fs';
import https from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import twilio from 'twilio';

const RECORD_WITHIN_MS = 20;
const { ACCOUNT, TOKEN, CA_FILE, CONNECT_TO } = process.env;

export const pool = new pg.Pool({ max: 10, idleTimeoutMillis: 0 });
pool.on('error', () => {}); // of a connection that nobody was using
pool.on('connect', (client) => client.on('error', () => {}));

// As many connections as requests in flight; they really go to CONNECT_TO, with the name and the check of TLS unchanged.
function connect(inFlight) {
  const sockets = { maxSockets: inFlight, maxTotalSockets: inFlight, maxFreeSockets: inFlight };
  const httpClient = new twilio.RequestClient({ ...sockets, ca: fs.readFileSync(CA_FILE) });
  const [host, port] = CONNECT_TO.split(':');
  httpClient.axios.defaults.httpsAgent.createConnection = function createConnection(options, done) {
    return https.Agent.prototype.createConnection.call(this, { ...options, host, port }, done);
  };
  return twilio(ACCOUNT, TOKEN, { httpClient });
}

let batch = null;

async function flush(results) {
  await delay(RECORD_WITHIN_MS);
  batch = null;
  const column = (name) => results.map((result) => result[name]);
  await pool.query({
    name: 'record',
    text: `UPDATE messages m SET sid = r.sid, status = r.status, updated_at = now()
           FROM unnest($1::bigint[], $2::text[], $3::text[]) AS r (id, sid, status) WHERE m.id = r.id`,
    values: [column('id'), column('sid'), column('status')],
  });
}

function record(result) {
  if (batch === null) {
    const results = [];
    batch = { results, committed: flush(results) };
  }
  batch.results.push(result);
  return batch.committed;
}

const isRecorded = async (id) =>
  (await pool.query('SELECT sid IS NOT NULL AS recorded FROM messages WHERE id = $1', [id])).rows[0].recorded;

// Returns what sends one message, at most so many of them at once.
export function sender(inFlight) {
  const client = connect(inFlight);
  return async ({ id, to, body }, { again }) => {
    if (again && (await isRecorded(id))) return;
    const { sid, status } = await client.messages.create({ to, from: '+15005550006', body });
    await record({ id, sid, status });
  };
}

// How fast the REST face is, beside what PostgREST does without us, in turn: node bench/rest.mjs ROUNDS SECONDS
//
//   settings  GET /api/twilio-settings/ through nginx, against PostgREST alone serving a bare table with the same row
//   callback  signed status callbacks through nginx, one for each of many messages, against PostgREST alone calling
//             an empty function with a body of that size
//   nothing   the same callbacks, with a function that does nothing in the place of ours: what the way costs
//   writes    the same with one that updates a row of a bare table and adds one to another: the least that a callback,
//             whose status is kept, could cost
//   inbound   messages that arrive, as callback

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startStack, until } from '../test/rest/stack.mjs';
import { delivered, report, sidOf, signed, writeScript, wrk } from './callbacks.mjs';

const [rounds, seconds] = process.argv.slice(2).map(Number);
const WEBHOOKS = 60_000;
const CONNECTIONS = 16;

const stack = await startStack({ conf: readFileSync(new URL('server.conf', import.meta.url), 'utf8') });
try {
  const direct = `http://127.0.0.1:${stack.postgrestPort}`;
  const script = (name, { method = 'GET', headers, body = '' }) => {
    const path = join(stack.dir, `${name}.lua`);
    const lines = Object.entries(headers).map(([key, value]) => `wrk.headers["${key}"] = "${value}"`);
    writeFileSync(path, [`wrk.method = "${method}"`, ...lines, `wrk.body = [==[${body}]==]`].join('\n'));
    return path;
  };
  const webhookScript = (name, webhooks) => {
    const path = join(stack.dir, `${name}.lua`);
    writeScript(path, webhooks, rounds);
    return path;
  };
  const compare = async (name, ours, theirs) => {
    for (let round = 0; round < rounds; round += 1) {
      report(`rest.${name}.bare`, await wrk(...theirs, { round, seconds, connections: CONNECTIONS }));
      report(`rest.${name}`, await wrk(...ours, { round, seconds, connections: CONNECTIONS }));
    }
  };

  const tenant = await stack.configuredTenant();
  const account = { sid: tenant.sid, token: tenant.secret, number: tenant.number };
  const url = `${stack.publicUrl}/twilio/webhook`;
  await stack.sql(`CREATE TABLE bare AS TABLE twilio_settings; GRANT SELECT ON bare TO twilio_user;
    CREATE FUNCTION nothing(bytea) RETURNS "text/xml" LANGUAGE plpgsql AS $$ BEGIN RETURN '<Response/>'; END $$;
    GRANT EXECUTE ON FUNCTION nothing TO twilio_webhook; NOTIFY pgrst, 'reload schema'`);
  const headers = { Authorization: `Bearer ${tenant.token}` };
  await until('PostgREST knows the table', async () => (await fetch(`${direct}/bare`, { headers })).ok);
  const reading = script('reading', { headers });
  await compare('settings', [`${stack.url}/api/twilio-settings/`, reading], [`${direct}/bare`, reading]);

  await stack.sql(`SET row_security = off; INSERT INTO twilio_messages (user_id, direction, from_number, to_number, body, status, sid, num_segments)
    SELECT '${tenant.user}', 'outbound', '${tenant.number}', '+15558675310', 'Hello', 'sent', 'SM' || lpad(n::text, 32, '0'), 1 FROM generate_series(0, ${WEBHOOKS - 1}) n; ANALYZE twilio_messages`);
  const numbers = [...Array(WEBHOOKS).keys()];
  const callbacks = numbers.map((n) => delivered(account, url, n));
  const arrivals = numbers.map((n) => {
    const sid = sidOf(n).replace('SM0', 'SM1');
    const message = { SmsStatus: 'received', NumMedia: '0', NumSegments: '1', Body: 'Hello', From: '+15558675310', To: tenant.number };
    return signed(account, url, { MessageSid: sid, SmsSid: sid, ...message });
  });
  const empty = script('empty', {
    method: 'POST',
    body: callbacks[0].body,
    headers: { 'Content-Type': 'application/octet-stream', Accept: 'text/xml' },
  });
  const nothing = [`${direct}/rpc/nothing`, empty];
  const calling = webhookScript('callback', callbacks);
  await compare('callback', [url, calling], nothing);
  await compare('inbound', [url, webhookScript('inbound', arrivals)], nothing);

  const become = (body) => stack.sql(`CREATE OR REPLACE FUNCTION twilio_webhook(bytea) RETURNS "text/xml"
    LANGUAGE plpgsql SECURITY DEFINER AS $$ ${body} $$`);
  await become(`BEGIN RETURN '<Response/>'; END`);
  await compare('nothing', [url, calling], nothing);
  await stack.sql(`CREATE TABLE bare_messages (sid text PRIMARY KEY, status text) WITH (fillfactor = 50);
    INSERT INTO bare_messages SELECT sid, status FROM twilio_messages WHERE direction = 'outbound';
    CREATE TABLE bare_events (id bigserial PRIMARY KEY, sid text, said text)`);
  await become(`DECLARE
      said text := convert_from($1, 'UTF8');
      its_sid text := substring(said FROM 'MessageSid=(SM[0-9]+)');
    BEGIN
      UPDATE bare_messages SET status = 'delivered' WHERE sid = its_sid;
      INSERT INTO bare_events (sid, said) VALUES (its_sid, said);
      PERFORM set_config('synchronous_commit', 'off', true);
      RETURN '<Response/>';
    END`);
  await compare('writes', [url, calling], nothing);
} finally {
  await stack.stop();
}

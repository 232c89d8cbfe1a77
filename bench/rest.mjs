// How fast the REST face is, as ratios to what PostgREST does without us, in one run: node bench/rest.mjs [SECONDS]
//
//   settings  GET /api/twilio-settings/ through nginx, against PostgREST alone serving a bare table with the same row
//   callback  signed status callbacks through nginx, one for each of many messages, against PostgREST alone calling
//             an empty function with a body of that size
//   inbound   the same with messages that arrive
//
// Needs wrk, and what the tests need. The two sides take turns, three rounds each; medians are printed.

import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { startStack } from '../test/rest/stack.mjs';

const webhooks = createRequire(new URL('../test/rest/', import.meta.url))('twilio/lib/webhooks/webhooks.js');
const run = promisify(execFile);
const seconds = Number(process.argv[2] ?? 8);
const ROUNDS = 3;
const WEBHOOKS = 60_000;
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const millis = (text) => Number.parseFloat(text) * (text.endsWith('us') ? 0.001 : text.endsWith('ms') ? 1 : 1000);

async function wrk(url, script, round) {
  const { stdout } = await run('wrk', ['-c16', '-t2', `-d${seconds}s`, '--latency', '-s', script, url], {
    env: { ...process.env, ROUND: String(round) },
  });
  const refused = /Non-2xx or 3xx responses: (\d+)/.exec(stdout);
  if (refused) throw new Error(`${url}: ${refused[1]} requests were refused`);
  return {
    rate: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)[1]),
    p50: millis(/50%\s+([\d.]+\w+)/.exec(stdout)[1]),
  };
}

async function compare(name, ours, theirs) {
  const results = { ours: [], theirs: [] };
  for (let round = 0; round < ROUNDS; round += 1) {
    results.theirs.push(await wrk(...theirs, round));
    results.ours.push(await wrk(...ours, round));
  }
  const of = (side, what) => median(results[side].map((result) => result[what]));
  console.log(
    `${name.padEnd(9)} ours ${of('ours', 'rate').toFixed(0)}/s p50 ${of('ours', 'p50').toFixed(2)} ms   ` +
      `theirs ${of('theirs', 'rate').toFixed(0)}/s p50 ${of('theirs', 'p50').toFixed(2)} ms   ratio ${(of('ours', 'rate') / of('theirs', 'rate')).toFixed(2)}`,
  );
}

const stack = await startStack();
try {
  const direct = `http://127.0.0.1:${stack.postgrestPort}`;
  const script = (name, { method = 'GET', headers, body = '' }) => {
    const path = join(stack.dir, `${name}.lua`);
    writeFileSync(
      path,
      `wrk.method = "${method}"\n${Object.entries(headers)
        .map(([key, value]) => `wrk.headers["${key}"] = "${value}"`)
        .join('\n')}\nwrk.body = [==[${body}]==]\n`,
    );
    return path;
  };
  // Signed requests, each another one; a thread of wrk takes every second.
  const webhookScript = (name, tenant, all) => {
    const requests = all.map((one) => {
      const params = { ApiVersion: '2010-04-01', AccountSid: tenant.sid, ...one };
      return `{"${new URLSearchParams(params)}","${webhooks.getExpectedTwilioSignature(tenant.secret, `${stack.publicUrl}/twilio/webhook`, params)}"}`;
    });
    const path = join(stack.dir, `${name}.lua`);
    writeFileSync(join(stack.dir, `${name}.txt`), `return {${requests.join(',\n')}}`);
    writeFileSync(
      path,
      `local threads = 0
      function setup(thread) thread:set("offset", threads) threads = threads + 1 end
      function init() requests = dofile("${join(stack.dir, `${name}.txt`)}") n = offset + (tonumber(os.getenv("ROUND")) * #requests / ${ROUNDS}) end
      function request()
        n = n + 2
        local one = requests[n % #requests + 1]
        return wrk.format("POST", nil, { ["Content-Type"] = "application/x-www-form-urlencoded; charset=UTF-8", ["X-Twilio-Signature"] = one[2] }, one[1])
      end`,
    );
    return path;
  };
  const tenant = await stack.configuredTenant();
  await stack
    .sql(
      `CREATE TABLE bare AS TABLE twilio_settings; GRANT SELECT ON bare TO twilio_user;
    CREATE FUNCTION nothing(bytea) RETURNS "text/xml" LANGUAGE plpgsql AS $$ BEGIN RETURN '<Response/>'; END $$;
    GRANT EXECUTE ON FUNCTION nothing TO twilio_webhook; NOTIFY pgrst, 'reload schema'`,
    )
    .catch((error) => {
      console.error(error.message);
      process.exitCode = 1;
    });
  const reading = script('reading', { headers: { Authorization: `Bearer ${tenant.token}` } });
  for (
    let tries = 0;
    tries < 100 && !(await fetch(`${direct}/bare`, { headers: { authorization: `Bearer ${tenant.token}` } })).ok;
    tries += 1
  )
    await new Promise((resolve) => {
      setTimeout(resolve, 100);
    });
  await compare('settings', [`${stack.url}/api/twilio-settings/`, reading], [`${direct}/bare`, reading]);

  const sids = [...Array(WEBHOOKS).keys()].map((n) => `SM${String(n).padStart(32, '0')}`);
  await stack.sql(`SET row_security = off; INSERT INTO twilio_messages (user_id, direction, from_number, to_number, body, status, sid, num_segments)
    SELECT '${tenant.user}', 'outbound', '${tenant.number}', '+15558675310', 'Hello', 'sent', 'SM' || lpad(n::text, 32, '0'), 1 FROM generate_series(0, ${WEBHOOKS - 1}) n; ANALYZE twilio_messages`);
  const callback = webhookScript(
    'callback',
    tenant,
    sids.map((sid) => ({
      MessageSid: sid,
      SmsSid: sid,
      MessageStatus: 'delivered',
      SmsStatus: 'delivered',
      To: '+15558675310',
      From: tenant.number,
    })),
  );
  const inbound = webhookScript(
    'inbound',
    tenant,
    sids.map((sid) => ({
      MessageSid: `${sid}`.replace('SM0', 'SM1'),
      SmsSid: sid.replace('SM0', 'SM1'),
      SmsStatus: 'received',
      NumMedia: '0',
      NumSegments: '1',
      Body: 'Hello',
      From: '+15558675310',
      To: tenant.number,
    })),
  );
  const body =
    'ApiVersion=2010-04-01&AccountSid=ACc1c5267dec5b42d0a309b360bc3d86a5&MessageSid=SM11111111111111111111111111111111&SmsSid=SM11111111111111111111111111111111&MessageStatus=delivered&SmsStatus=delivered&To=%2B15558675310&From=%2B15005550006';
  const empty = script('empty', {
    method: 'POST',
    body,
    headers: { 'Content-Type': 'application/octet-stream', Accept: 'text/xml' },
  });
  await compare('callback', [`${stack.url}/twilio/webhook`, callback], [`${direct}/rpc/nothing`, empty]);
  await compare('inbound', [`${stack.url}/twilio/webhook`, inbound], [`${direct}/rpc/nothing`, empty]);
} finally {
  await stack.stop();
}

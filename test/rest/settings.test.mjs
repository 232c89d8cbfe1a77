// The guide's endpoints for settings, as a client sees them through nginx and PostgREST.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { PostgrestClient } from '@supabase/postgrest-js';
import { startStack, until } from './stack.mjs';

const stack = await startStack();
after(() => stack.stop());

const MASK = '••••••••';
const PATH = '/api/twilio-settings/';
const call = (tenant, method, body, path = PATH) => stack.request(method, path, { token: tenant.token, body });
const account = (tenant) => ({ account_sid: tenant.sid, auth_token: tenant.secret });
const GUIDE_COLUMNS = [
  'id',
  'user_id',
  'account_sid',
  'auth_token',
  'phone_number',
  'sms_enabled',
  'voice_enabled',
  'is_active',
  'is_verified',
  'created_at',
  'updated_at',
  'last_verified_at',
];

function assertRefused(answer, status, message, detail) {
  assert.deepEqual([answer.status, answer.json.message], [status, message], answer.text);
  assert.match(answer.headers.get('content-type'), /^application\/json/);
  if (detail) assert.match(answer.json.details, detail);
}

test('before configuring, everything but POST answers 404 Settings not found', async () => {
  const tenant = await stack.newTenant();
  for (const [method, path] of [
    ['GET', PATH],
    ['PUT', PATH],
    ['DELETE', PATH],
    ['POST', `${PATH}verify`],
    ['GET', `${PATH}phone-numbers`],
  ]) {
    const answer = await call(tenant, method, method === 'PUT' ? { sms_enabled: false } : undefined, path);
    assertRefused(answer, 404, 'Settings not found', /No Twilio account is configured/);
    assert.equal(typeof answer.json.hint, 'string');
  }
});

test('POST answers 201 with one object that has the columns of the guide and a masked token', async () => {
  const tenant = await stack.newTenant();
  const answer = await call(tenant, 'POST', {
    ...account(tenant),
    phone_number: '+1234567890',
    sms_enabled: true,
    voice_enabled: false,
  });
  assert.equal(answer.status, 201, answer.text);
  assert.deepEqual(Object.keys(answer.json).slice(0, GUIDE_COLUMNS.length), GUIDE_COLUMNS);
  const {
    account_sid,
    auth_token,
    phone_number,
    sms_enabled,
    voice_enabled,
    is_active,
    is_verified,
    user_id,
    last_verified_at,
  } = answer.json;
  assert.deepEqual(
    [
      account_sid,
      auth_token,
      phone_number,
      sms_enabled,
      voice_enabled,
      is_active,
      is_verified,
      user_id,
      last_verified_at,
    ],
    [tenant.sid, MASK, '+1234567890', true, false, true, false, tenant.user, null],
  );
  assert.deepEqual((await call(tenant, 'GET')).json, answer.json);
});

test('the switches default to on', async () => {
  const tenant = await stack.newTenant();
  const { json } = await call(tenant, 'POST', account(tenant));
  assert.deepEqual([json.sms_enabled, json.voice_enabled, json.is_active, json.phone_number], [true, true, true, null]);
});

test('a second POST is 409, also when both come at once', async () => {
  const tenant = await stack.newTenant();
  const answers = await Promise.all([1, 2, 3, 4].map(() => call(tenant, 'POST', account(tenant))));
  assert.deepEqual(answers.map((answer) => answer.status).sort(), [201, 409, 409, 409]);
  assertRefused(await call(tenant, 'POST', account(tenant)), 409, 'Settings already exist');
});

test('PUT changes what it names and keeps the rest, the token and the verification too', async () => {
  const tenant = await stack.configuredTenant();
  const before = (await call(tenant, 'GET')).json;
  const answer = await call(tenant, 'PUT', { sms_enabled: false, phone_number: null });
  assert.equal(answer.status, 200);
  assert.deepEqual(answer.json, {
    ...before,
    sms_enabled: false,
    phone_number: null,
    updated_at: answer.json.updated_at,
  });
  assert.equal((await call(tenant, 'POST', undefined, `${PATH}verify`)).json.verified, true);
});

test('the whole object may be sent back as it was read', async () => {
  const tenant = await stack.configuredTenant();
  const before = (await call(tenant, 'GET')).json;
  const answer = await call(tenant, 'PUT', {
    ...before,
    voice_enabled: false,
    is_verified: false,
    account_name: 'forged',
  });
  assert.deepEqual(answer.json, { ...before, voice_enabled: false, updated_at: answer.json.updated_at });
  assert.equal((await call(tenant, 'POST', undefined, `${PATH}verify`)).json.verified, true);
});

test('a new token resets the verification and is the one that is used', async () => {
  const tenant = await stack.configuredTenant();
  await stack.twilio('PATCH', `accounts/${tenant.sid}`, { token: 'n'.repeat(32) });
  const answer = await call(tenant, 'PUT', { auth_token: 'n'.repeat(32) });
  assert.deepEqual([answer.json.is_verified, answer.json.auth_token], [false, MASK]);
  assert.equal((await call(tenant, 'POST', undefined, `${PATH}verify`)).json.verified, true);
});

test('POST and PUT write every column that users may write', async () => {
  const tenant = await stack.newTenant();
  const written = {
    ...account(tenant),
    phone_number: '+15005550006',
    sms_enabled: false,
    voice_enabled: false,
    is_active: false,
    api_key_sid: `SK${'1'.repeat(32)}`,
    messaging_service_sid: `MG${'1'.repeat(32)}`,
    resend_unknown: false,
    auto_reply: 'We call you back.',
  };
  const answer = await call(tenant, 'POST', { ...written, api_key_secret: 's'.repeat(32) });
  assert.deepEqual(answer.json, { ...answer.json, ...written, auth_token: MASK, api_key_secret: MASK });
  const others = Object.keys(answer.json).filter((name) => !(name in written) && name !== 'api_key_secret');
  assert.deepEqual(others, [
    'id',
    'user_id',
    'is_verified',
    'created_at',
    'updated_at',
    'last_verified_at',
    'account_name',
    'account_status',
    'account_type',
    'verification_error',
    'rate_limit_per_second',
    'max_in_flight',
  ]);
  const changes = {
    phone_number: '+15005550010',
    sms_enabled: true,
    voice_enabled: true,
    is_active: true,
    api_key_sid: null,
    messaging_service_sid: null,
    resend_unknown: true,
    auto_reply: null,
  };
  assert.deepEqual((await call(tenant, 'PUT', changes)).json, {
    ...(await call(tenant, 'GET')).json,
    ...changes,
    api_key_secret: null,
  });
});

test('DELETE answers 204 and takes the secret with it', async () => {
  const tenant = await stack.configuredTenant();
  const answer = await call(tenant, 'DELETE');
  assert.deepEqual([answer.status, answer.text], [204, '']);
  assertRefused(await call(tenant, 'GET'), 404, 'Settings not found');
  assert.deepEqual(await stack.sql(`SELECT count(*) FROM twilio_private.credential WHERE user_id = '${tenant.user}'`), [
    ['0'],
  ]);
  assert.equal((await call(tenant, 'POST', account(tenant))).status, 201);
});

test('bad input is 400 with a sentence for the field, which does not repeat the value', async () => {
  const tenant = await stack.newTenant();
  const good = account(tenant);
  const cases = [
    [{ ...good, account_sid: 'AC123' }, 'invalid account SID', /34 characters and starts with AC/],
    [{ ...good, account_sid: tenant.secret }, 'invalid account SID'],
    [{ ...good, auth_token: 'short' }, 'invalid auth token', /at least 32 characters/],
    [{ account_sid: tenant.sid }, 'missing auth token'],
    [{ ...good, phone_number: '555-1234' }, 'invalid phone number', /E\.164/],
    [{ ...good, api_key_sid: `SK${'0'.repeat(32)}` }, 'incomplete API key'],
    [{ ...good, authToken: 'x' }, 'unknown setting'],
  ];
  for (const [body, message, detail] of cases) {
    const answer = await call(tenant, 'POST', body);
    assertRefused(answer, 400, message, detail);
    assert.ok(!answer.text.includes(tenant.secret));
  }
  for (const body of ['[]', 'null', '"text"']) {
    assertRefused(await call(tenant, 'POST', body), 400, 'the settings are no JSON object');
  }
  for (const body of ['', '{', '{"sms_enabled": "perhaps"}']) {
    assert.equal((await call(tenant, 'POST', body)).status, 400, body);
  }
  assert.equal((await call(tenant, 'GET')).status, 404);
});

test('verify answers 200 with verified: false and the reason for wrong credentials', async () => {
  const tenant = await stack.newTenant();
  await call(tenant, 'POST', { ...account(tenant), auth_token: 'w'.repeat(32) });
  const answer = await call(tenant, 'POST', undefined, `${PATH}verify`);
  assert.equal(answer.status, 200);
  assert.deepEqual([answer.json.verified, answer.json.error_code, answer.json.account_sid], [false, 20003, tenant.sid]);
  assert.match(answer.json.message, /Account SID or the Auth Token is wrong/);
  const stored = (await call(tenant, 'GET')).json;
  assert.deepEqual([stored.is_verified, stored.verification_error], [false, answer.json.message]);
  assertRefused(
    await call(tenant, 'GET', undefined, `${PATH}phone-numbers`),
    409,
    'Twilio credentials are not verified',
  );
});

test('verify answers with the account and stores that it is verified', async () => {
  const tenant = await stack.configuredTenant();
  const answer = await call(tenant, 'POST', undefined, `${PATH}verify`);
  assert.deepEqual(
    [answer.json.verified, answer.json.account_name, answer.json.account_status],
    [true, 'Sunshine Dental', 'active'],
  );
  const stored = (await call(tenant, 'GET')).json;
  assert.deepEqual(
    [stored.is_verified, Date.parse(stored.last_verified_at)],
    [true, Date.parse(answer.json.checked_at)],
  );
});

test('an unreachable Twilio is 502 and changes nothing', async () => {
  const tenant = await stack.configuredTenant();
  await stack.twilio('POST', 'behave', { match: { account: tenant.sid }, action: '503', times: 1 });
  const before = (await call(tenant, 'GET')).json;
  assert.equal((await call(tenant, 'POST', undefined, `${PATH}verify`)).status, 502);
  assert.deepEqual((await call(tenant, 'GET')).json, before);
});

test('phone numbers are listed with what they can do, all pages of them', async () => {
  // More than PostgREST gives out of a list of rows.
  const numbers = [...Array(1001).keys()].map((n) => ({
    phone_number: `+1500600${String(n).padStart(4, '0')}`,
    friendly_name: `Desk ${n}`,
    capabilities: { mms: n % 2 === 0 },
  }));
  const tenant = await stack.configuredTenant({ account: { numbers } });
  const { status, json } = await call(tenant, 'GET', undefined, `${PATH}phone-numbers`);
  assert.equal(status, 200);
  assert.equal(json.length, 1001);
  const { phone_number, friendly_name, sms, mms, voice, sid } = json[1];
  assert.deepEqual([phone_number, friendly_name, sms, mms, voice], ['+15006000001', 'Desk 1', true, false, true]);
  assert.match(sid, /^PN[0-9a-f]{32}$/);
  assert.equal((await call(tenant, 'GET', undefined, '/api/twilio_numbers?select=sid&limit=2')).json.length, 2);
  assert.deepEqual(await stack.sql(`SELECT count(*) FROM twilio_numbers WHERE user_id = '${tenant.user}'`), [['1001']]);
});

test('the slash at the end may be left out, and a query is ignored', async () => {
  const tenant = await stack.configuredTenant();
  for (const path of ['/api/twilio-settings', `${PATH}?_=123`, `${PATH}?user_id=eq.0`])
    assert.equal((await call(tenant, 'GET', undefined, path)).json.account_sid, tenant.sid);
  for (const path of ['verify', 'verify/'])
    assert.equal((await call(tenant, 'POST', { anything: 1 }, PATH + path)).json.verified, true);
  for (const path of ['phone-numbers', 'phone-numbers/?x=1'])
    assert.equal((await call(tenant, 'GET', undefined, PATH + path)).json.length, 1);
  const head = await call(tenant, 'HEAD');
  assert.deepEqual([head.status, head.text], [200, '']);
  for (const [method, path, allowed] of [
    ['POST', 'phone-numbers', 'GET'],
    ['GET', 'verify', 'POST'],
    ['OPTIONS', '', 'GET, HEAD, POST, PUT, PATCH, DELETE'],
  ]) {
    const { status, headers } = await call(tenant, method, undefined, PATH + path);
    assert.deepEqual([status, headers.get('allow')], [405, allowed]);
  }
  const page = await stack.request('POST', '/twilio-settings');
  assert.deepEqual([page.status, page.headers.get('allow')], [405, 'GET, HEAD']);
});

test('an administrator reads and writes the own settings there, whoever else has some', async () => {
  const other = await stack.configuredTenant();
  const admin = await stack.newTenant();
  admin.token = stack.token(admin.user, { role: 'twilio_admin' });
  assertRefused(await call(admin, 'GET'), 404, 'Settings not found');
  assertRefused(await call(admin, 'DELETE'), 404, 'Settings not found');
  assert.equal((await call(admin, 'POST', account(admin))).status, 201);
  assert.equal((await call(admin, 'PUT', { rate_limit_per_second: 5 })).json.rate_limit_per_second, 5);
  assert.equal((await call(admin, 'GET')).json.account_sid, admin.sid);
  assert.equal((await call(admin, 'DELETE')).status, 204);
  assert.equal((await call(other, 'GET')).json.account_sid, other.sid);
  assert.ok(
    (await call(admin, 'GET', undefined, '/api/twilio_settings')).json.some((row) => row.account_sid === other.sid),
  );
});

test("the same through supabase's client on PostgREST's own interface", async () => {
  const tenant = await stack.newTenant();
  const client = new PostgrestClient(`${stack.url}/api`, { headers: { Authorization: `Bearer ${tenant.token}` } });
  const ok = async (query) => {
    const { data, error } = await query;
    assert.equal(error, null);
    return data;
  };

  assert.equal((await client.from('twilio_settings').select().single()).error.code, 'PGRST116');
  assert.equal((await ok(client.from('twilio_settings').insert(account(tenant)).select().single())).auth_token, MASK);
  assert.equal((await client.from('twilio_settings').insert(account(tenant))).error.code, '23505');
  assert.equal(
    (await ok(client.from('twilio_settings').upsert({ phone_number: tenant.number }).select().single())).phone_number,
    tenant.number,
  );
  assert.equal((await ok(client.rpc('twilio_verify').single())).verified, true);
  assert.deepEqual(
    (await ok(client.rpc('twilio_phone_numbers'))).map((number) => number.phone_number),
    [tenant.number],
  );
  assert.deepEqual(
    await ok(client.from('twilio_settings').select('account_sid,twilio_numbers(phone_number,is_default)')),
    [{ account_sid: tenant.sid, twilio_numbers: [{ phone_number: tenant.number, is_default: false }] }],
  );
  await ok(client.rpc('twilio_send_sms', { to_number: '+15558675310', body: 'Hello' }));
  const [sent] = await ok(client.from('twilio_messages').select('body,twilio_message_events(status,source)'));
  assert.equal(sent.body, 'Hello');
  assert.deepEqual(sent.twilio_message_events[0], { status: 'pending', source: 'local' });
  assert.deepEqual(
    await ok(
      client.from('twilio_settings').update({ sms_enabled: false }).eq('user_id', tenant.user).select('sms_enabled'),
    ),
    [{ sms_enabled: false }],
  );
  assert.deepEqual(await ok(client.from('twilio_settings').delete().eq('user_id', tenant.user).select('account_sid')), [
    { account_sid: tenant.sid },
  ]);
});

// PostgREST repeats what fails with 40001, so that the table's interface does what it should; PT409 it does not repeat.
test('a role whose transactions are REPEATABLE READ is answered when another write comes first', async () => {
  const tenant = await stack.configuredTenant();
  const isolation = async () => (await call(tenant, 'POST', {}, '/api/rpc/isolation')).text;
  await stack.sql(`CREATE FUNCTION isolation() RETURNS text LANGUAGE sql VOLATILE
    RETURN current_setting('transaction_isolation');
    ALTER ROLE twilio_user SET default_transaction_isolation = 'repeatable read';
    NOTIFY pgrst, 'reload config'; NOTIFY pgrst, 'reload schema'`);
  await until('the role has its isolation', async () => /repeatable/.test(await isolation()));
  for (const [method, path, body] of [
    ['PUT', PATH, { voice_enabled: false }],
    ['PATCH', `/api/twilio_settings?user_id=eq.${tenant.user}`, { voice_enabled: true }],
    ['DELETE', PATH],
  ]) {
    const other = stack.sql(`BEGIN; UPDATE twilio_settings SET sms_enabled = NOT sms_enabled WHERE user_id = '${tenant.user}';
      DO $$ BEGIN
        FOR i IN 1..1000 LOOP
          EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE NOT granted);
          PERFORM pg_sleep(0.01);
        END LOOP;
      END $$; COMMIT`);
    await until('the row is locked', async () => {
      const [[held]] = await stack.sql(`SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'`);
      return held === '1';
    });
    const answer = await call(tenant, method, body, path);
    assert.ok(answer.status < 300, `${method}: ${answer.status} ${answer.text}`);
    await other;
  }
  await stack.sql(`ALTER ROLE twilio_user RESET default_transaction_isolation; DROP FUNCTION isolation();
    NOTIFY pgrst, 'reload config'`);
});

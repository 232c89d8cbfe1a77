// Who may do what: nobody without a token, nobody with another's data, and secrets nowhere.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { checkout, mint, startStack, until } from './stack.mjs';

const stack = await startStack({ conf: 'log_statement = none' });
after(() => stack.stop());

const PATH = '/api/twilio-settings/';
const everything = [
  ['GET', PATH],
  ['POST', PATH],
  ['PUT', PATH],
  ['DELETE', PATH],
  ['POST', `${PATH}verify`],
  ['GET', `${PATH}phone-numbers`],
  ['GET', '/api/'],
  ['GET', '/api/twilio_settings'],
  ['GET', '/api/twilio_messages'],
  ['GET', '/api/no_such_table'],
  ['POST', '/api/rpc/twilio_verify'],
  ['POST', '/api/rpc/twilio_webhook'],
  ['POST', '/api/rpc/twilio_handle_webhook'],
  ['OPTIONS', '/api/twilio_settings'],
];

test('without a token everything but the webhook and the page is 401', async () => {
  for (const authorization of [undefined, 'Bearer', 'Bearer ', 'Basic YTpi', 'x'])
    for (const [method, path] of everything) {
      const headers = authorization && { authorization };
      const answer = await stack.request(method, path, { headers, body: method === 'POST' ? {} : undefined });
      assert.equal(answer.status, 401, `${method} ${path} ${authorization}`);
      assert.equal(answer.headers.get('www-authenticate'), 'Bearer');
      assert.equal(answer.json.message, 'Anonymous access is disabled');
    }
  assert.equal((await stack.request('GET', '/twilio-settings')).status, 200);
});

test('a token that is expired, forged, unsigned or of no use is 401', async () => {
  const tenant = await stack.configuredTenant();
  const claims = { sub: tenant.user, role: 'twilio_user' };
  const unsigned = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${tenant.token.split('.')[1]}.`;
  for (const token of [
    stack.token(tenant.user, { exp: 1 }),
    mint('x'.repeat(40), claims),
    unsigned,
    'nonsense',
    stack.token(tenant.user, { role: undefined }),
  ]) {
    for (const [method, path] of [
      ['GET', PATH],
      ['POST', `${PATH}verify`],
      ['GET', '/api/twilio_settings'],
    ]) {
      assert.equal((await stack.request(method, path, { token })).status, 401, token);
    }
  }
});

test('a token without a user is 403 with a hint', async () => {
  for (const sub of [undefined, '', 'not-a-uuid']) {
    const answer = await stack.request('GET', PATH, { token: stack.token(sub) });
    assert.deepEqual([answer.status, answer.json.message], [403, 'no Twilio user is known']);
    assert.match(answer.json.hint, /claim sub/);
  }
});

test("another user's settings can be neither read nor written", async () => {
  const victim = await stack.configuredTenant();
  const tenant = await stack.configuredTenant();
  const as = (method, path, body) => stack.request(method, path, { token: tenant.token, body });
  assert.deepEqual((await as('GET', `/api/twilio_settings?user_id=eq.${victim.user}`)).json, []);
  assert.equal((await as('PUT', PATH, { user_id: victim.user })).status, 403);
  assert.equal((await as('DELETE', `/api/twilio_settings?user_id=eq.${victim.user}`)).status, 204);
  assert.equal(
    (
      await as('POST', '/api/twilio_settings', {
        user_id: victim.user,
        account_sid: tenant.sid,
        auth_token: tenant.secret,
      })
    ).status,
    403,
  );
  const newcomer = await stack.newTenant();
  assert.equal(
    (
      await stack.request('POST', PATH, {
        token: newcomer.token,
        body: { user_id: victim.user, account_sid: newcomer.sid, auth_token: newcomer.secret },
      })
    ).status,
    403,
  );
  assert.equal((await stack.request('GET', PATH, { token: victim.token })).json.account_sid, victim.sid);
});

test("the webhook's function is reached by its own route only", async () => {
  const tenant = await stack.newTenant();
  for (const path of [
    '/api/rpc/twilio_webhook',
    '/api/rpc/twilio_webhook/',
    '/api/rpc/%74wilio_webhook',
    '/api//rpc/twilio_webhook',
    '/api/x/../rpc/twilio_webhook',
    '/api/rpc/twilio_handle_webhook',
    '/call/twilio_verify',
    '/rpc/twilio_webhook',
  ]) {
    for (const token of [
      tenant.token,
      stack.token(tenant.user, { role: undefined }),
      stack.token(tenant.user, { role: 'twilio_webhook' }),
    ]) {
      const answer = await stack.request('POST', path, {
        token,
        body: 'a=1',
        headers: { 'content-type': 'application/octet-stream', accept: 'text/xml' },
      });
      assert.equal(answer.status, 404, path);
    }
  }
});

test('a token and an API key are in no answer and in no log', async () => {
  const canary = 'c4na7yc4na7yc4na7yc4na7yc4na7y00';
  const keySecret = 'C4naryKeySecretC4naryKeySecret00';
  const tenant = await stack.newTenant({ token: canary, keys: [{ sid: `SK${'5'.repeat(32)}`, secret: keySecret }] });
  const texts = [];
  const as = async (method, path, body) => {
    const answer = await stack.request(method, path, { token: tenant.token, body });
    texts.push(JSON.stringify([...answer.headers]), answer.text);
    return answer.status;
  };
  const account = {
    account_sid: tenant.sid,
    auth_token: canary,
    api_key_sid: `SK${'5'.repeat(32)}`,
    api_key_secret: keySecret,
  };
  assert.equal(await as('POST', PATH, { ...account, phone_number: 'bad' }), 400);
  assert.equal(await as('POST', PATH, { ...account, account_sid: canary }), 400);
  assert.equal(await as('POST', PATH, { ...account, phone_number: canary }), 400);
  assert.equal(await as('POST', PATH, `{"auth_token": "${canary}"`), 400);
  // PostgREST leaves it to PostgreSQL to find what is no JSON where columns are named, or in an escape.
  assert.equal(await as('POST', '/api/twilio_settings?columns=auth_token', `{"auth_token": "${canary}",}`), 400);
  assert.equal(await as('PUT', PATH, `{"auth_token": "${canary}\\u0000"}`), 400);
  assert.equal(await as('POST', PATH, { ...account, user_id: '00000000-0000-7000-8000-000000000001' }), 403);
  assert.equal(await as('POST', PATH, account), 201);
  assert.equal(await as('POST', PATH, account), 409);
  assert.equal(await as('PUT', PATH, { ...account, rate_limit_per_second: 5 }), 403);
  assert.equal(await as('PUT', PATH, account), 200);
  assert.equal(await as('POST', `${PATH}verify`), 200);
  assert.equal(await as('GET', `${PATH}phone-numbers`), 200);
  assert.equal(await as('POST', '/api/twilio_settings', account), 409);
  for (const path of [
    '/api/',
    '/api/twilio_settings',
    '/api/twilio_audit_log',
    '/api/twilio_status',
    '/api/twilio_numbers',
    PATH,
  ])
    assert.equal(await as('GET', path), 200);
  assert.equal(await as('DELETE', PATH), 204);

  await until('nginx wrote its log', () =>
    stack.logs()['nginx/access.log'].includes('"DELETE /api/twilio-settings/" 204'),
  );
  for (const [where, text] of [['answers', texts.join('\n')], ...Object.entries(stack.logs())]) {
    for (const secret of [canary, keySecret, tenant.token])
      assert.ok(!text.includes(secret), `a secret is in ${where}`);
  }
});

test('with all statements logged, a token stays out of the log; auto_explain shows the entering call and no more', async (t) => {
  const logging = await startStack({
    conf: `session_preload_libraries = 'auto_explain'
      auto_explain.log_min_duration = 0
      auto_explain.log_nested_statements = on
      auto_explain.log_verbose = on
      log_statement = 'all'
      log_min_duration_statement = 0
      log_error_verbosity = verbose`,
  });
  t.after(() => logging.stop());
  const canary = 'c4na7yc4na7yc4na7yc4na7yc4na7y00';
  const tenant = await logging.newTenant({ token: canary });
  const as = (method, body) =>
    logging.request(method, PATH, { token: tenant.token, body }).then(({ status }) => status);
  const account = { account_sid: tenant.sid, auth_token: canary };
  assert.deepEqual(
    [
      await as('POST', { ...account, phone_number: 'x' }),
      await as('POST', account),
      await as('POST', account),
      await as('PUT', account),
    ],
    [400, 201, 409, 200],
  );
  assert.equal((await logging.request('POST', `${PATH}verify`, { token: tenant.token })).json.verified, true);
  const entries = (
    await until(
      'the log is written',
      () => /twilio_verify/.test(logging.logs()['server.log']) && logging.logs()['server.log'],
    )
  ).split(/^(?=\d{4}-\d\d-\d\d )/m);
  const showing = entries.filter((entry) => entry.includes(canary));
  assert.deepEqual(
    showing.filter((entry) => !/Query Text: WITH pgrst_source/.test(entry)),
    [],
  );
  assert.deepEqual(
    showing.flatMap((entry) =>
      entry
        .split('\n')
        .filter((line) => line.includes(canary) && !/Function Call: twilio_(create|update)_settings/.test(line)),
    ),
    [],
  );
});

test("one user's slow questions leave connections for others, also when the user does not wait for the answers", async () => {
  const [one, other] = [await stack.configuredTenant(), await stack.configuredTenant()];
  const paths = ['POST /api/twilio-settings/verify', 'GET /api/twilio-settings/phone-numbers', 'POST /api/rpc/twilio_verify'];
  const ask = (n, signal) => {
    const [method, path] = paths[n % paths.length].split(' ');
    return fetch(stack.url + path, { method, signal, headers: { authorization: `Bearer ${one.token}` } }).catch((error) => error);
  };
  const { id } = await stack.twilio('POST', 'behave', { match: { account: one.sid }, action: 'delay', ms: 5000 });
  const gone = new AbortController();
  const questions = [...Array(5).keys()].map((n) => ask(n, gone.signal));
  const underWay = async (n) => {
    const [[calls]] = await stack.sql(`SELECT count(*) FROM pg_stat_activity
      WHERE usename = 'authenticator' AND state = 'active' AND query ~ 'twilio_(verify|get_phone)'`);
    return Number(calls) === n;
  };
  await until('five are under way', () => underWay(5));
  gone.abort();
  questions.push(...[...Array(35).keys()].map((n) => ask(n)));
  await until('fifteen are under way', () => underWay(15));

  const began = Date.now();
  const webhook = await stack.request('POST', '/twilio/webhook', {
    body: `AccountSid=${other.sid}`,
    headers: { 'content-type': 'application/x-www-form-urlencoded', 'x-twilio-signature': 'x' },
  });
  assert.deepEqual([webhook.status, Date.now() - began < 2000], [403, true]);
  assert.equal((await stack.request('POST', `${PATH}verify`, { token: other.token })).json.verified, true);
  assert.equal((await stack.request('GET', PATH, { token: one.token })).status, 200);
  await stack.twilio('DELETE', `behave/${id}`);

  const answers = await Promise.all(questions);
  assert.deepEqual([200, 429].map((status) => answers.filter((answer) => answer.status === status).length), [10, 25]);
  const refusal = await answers.find(({ status }) => status === 429).json();
  assert.deepEqual([refusal.code, refusal.message], ['PT429', 'too many calls to Twilio']);
  assert.equal((await ask(0)).status, 200);

  const [, pattern] = /map \$uri \$asks_twilio {\s*~(\S+)/.exec(readFileSync(join(checkout, 'deploy/nginx.conf'), 'utf8'));
  const asking = await stack.sql(`SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    AND prosrc ~ 'twilio_private.ask_deadline|FROM public.twilio_phone_numbers'`);
  assert.ok(asking.length > 6);
  assert.deepEqual(asking.flat().filter((name) => !new RegExp(pattern).test(`/rpc/${name}`)), []);
});

test('a query that takes longer than nginx waits ends, and does not keep its connection', async () => {
  const role = "SELECT unnest(setconfig) FROM pg_db_role_setting WHERE setrole = 'authenticator'::regrole";
  assert.ok((await stack.sql(role)).flat().includes('statement_timeout=30s'));
  const [, seconds] = /proxy_read_timeout (\d+)s;/.exec(readFileSync(join(checkout, 'deploy/nginx.conf'), 'utf8'));
  assert.equal(seconds, '30');

  // The same with a second, for connections that begin now.
  const tenant = await stack.configuredTenant();
  const body = [...Array(1590).keys()].map((n) => (n * n * 7 + n) % 10).join('');
  const sent = await stack.request('POST', '/api/twilio_messages', {
    token: tenant.token,
    body: { to_number: '+15558675310', body },
  });
  assert.equal(sent.status, 201);
  const connectAnew = async (timeout) => {
    await stack.sql(`ALTER ROLE authenticator SET statement_timeout = '${timeout}'`);
    await stack.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'authenticator'");
    await until('PostgREST has connected again', () =>
      stack.request('GET', PATH, { token: tenant.token }).then(({ status }) => status === 200),
    );
  };
  await connectAnew('1s');
  const slow = `/api/twilio_messages?body=match.${encodeURIComponent('^(.*)(.*)(.*)(.*)\\1\\2\\3\\4$')}`;
  const ended = await stack.request('GET', slow, { token: tenant.token });
  await connectAnew('30s');
  assert.deepEqual([ended.status, ended.json.code], [500, '57014']);
});

test('what takes longer than nginx waits is 504, in the body too', async () => {
  // Its connections were ended above: it listens again, then reads the schema, for which the lock would be in the way.
  await until('PostgREST has read the schema', async () => {
    const [[listening, busy]] = await stack.sql(`SELECT count(*) FILTER (WHERE query ~ '^LISTEN'),
        count(*) FILTER (WHERE state <> 'idle' OR state_change > clock_timestamp() - interval '1 second')
      FROM pg_stat_activity WHERE usename = 'authenticator'`);
    return listening === '1' && busy === '0';
  });
  const locked = stack.sql('BEGIN; LOCK twilio_settings; SELECT pg_sleep(60)').catch(() => {});
  await until('the table is locked', async () => {
    const sleeping = await stack.sql("SELECT 1 FROM pg_stat_activity WHERE query ~ '^BEGIN; LOCK' AND wait_event = 'PgSleep'");
    return sleeping.length === 1;
  });
  const answer = await stack.request('POST', '/twilio/webhook', {
    body: `AccountSid=AC${'0'.repeat(32)}`,
    headers: { 'content-type': 'application/x-www-form-urlencoded', 'x-twilio-signature': 'x' },
  });
  await stack.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ '^BEGIN; LOCK'");
  await locked;
  assert.deepEqual([answer.status, answer.json.code, answer.json.message], [504, '504', 'PostgREST takes too long']);
});

test('where an answer says that it comes from is below /api/', async () => {
  const tenant = await stack.configuredTenant();
  const made = await stack.request('POST', '/api/twilio_messages', {
    token: tenant.token,
    body: { to_number: '+15558675310', body: 'Hello' },
    headers: { prefer: 'return=headers-only' },
  });
  assert.equal(made.status, 201);
  const location = made.headers.get('location');
  const read = await stack.request('GET', location, { token: tenant.token });
  assert.deepEqual([read.status, read.json[0].body], [200, 'Hello']);
  // PostgREST knows nothing of /api/ and names another address.
  assert.equal(read.headers.get('content-location'), null);
});

test('the OpenAPI document at /api/ describes tables, columns and functions', async () => {
  const tenant = await stack.newTenant();
  const { status, json } = await stack.request('GET', '/api/', { token: tenant.token });
  assert.equal(status, 200);
  assert.equal(json.basePath, '/api');
  assert.match(json.definitions.twilio_settings.properties.auth_token.description, /Write-only/);
  for (const path of ['/twilio_settings', '/twilio_numbers', '/rpc/twilio_verify', '/rpc/twilio_phone_numbers'])
    assert.ok(json.paths[path], path);
  assert.deepEqual(
    Object.keys(json.paths).filter((path) => !/^\/$|^\/(rpc\/)?twilio_/.test(path)),
    [],
    'nothing else is exposed, such as functions of pgcrypto',
  );
});

// The last one: PostgREST answers, falls silent and answers again until it has read the schema anew.
test('without its database PostgREST says why; a caller without a token learns nothing of it', async () => {
  const tenant = await stack.configuredTenant();
  const connections = "FROM pg_stat_activity WHERE usename = 'authenticator'";
  await stack.sql('ALTER ROLE authenticator NOLOGIN');
  await stack.sql(`SELECT pg_terminate_backend(pid) ${connections}`);
  const [known, unknown] = await until('PostgREST has noticed', async () => {
    const answers = [
      await stack.request('GET', PATH, { token: tenant.token }),
      await stack.request('POST', '/twilio/webhook', { body: 'a=1' }),
    ];
    return /^PGRST00/.test(answers[0].json?.code) && answers;
  });
  await stack.sql('ALTER ROLE authenticator LOGIN');
  assert.deepEqual([known.status, unknown.status], [503, 503]);
  assert.deepEqual(unknown.json, {
    code: '503',
    details: null,
    hint: 'Try again; if it lasts, look at the log of PostgREST.',
    message: 'PostgREST has no database',
  });
});

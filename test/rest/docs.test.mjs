// docs/api.md: its examples are run in the order in which they stand, each language by a user of its own, and what it
// says about answers is compared with them. Every table and function of the API is in it.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import { checkout, startStack, until } from './stack.mjs';

const run = promisify(execFile);
const stack = await startStack();
after(() => stack.stop());

const text = readFileSync(join(checkout, 'docs/api.md'), 'utf8');
const blocks = [...text.matchAll(/^```(\w+)\n(.*?)^```/gms)].map(([, language, code]) => ({ language, code }));
const [, contacts] = /^```sql\n(CREATE TABLE contacts.*?)^```/ms.exec(readFileSync(join(checkout, 'docs/deploy.md'), 'utf8'));
await stack.sql(contacts);
await until('PostgREST knows the table', async () => {
  const { status } = await stack.request('GET', '/api/contacts', { token: stack.token('018f4a3e-0000-7000-8000-000000000001') });
  return status === 200;
});
const numbers = [{ phone_number: '+15005550006', friendly_name: 'Reception' }, { phone_number: '+15005550010' }];

// The code of a language with a tenant's own values in the place of the examples'.
const adapt = (code, tenant) =>
  code
    .replaceAll('https://crm.example.com', stack.url)
    .replaceAll('YOUR_TOKEN', tenant.token)
    .replaceAll(`AC${'x'.repeat(32)}`, tenant.sid)
    .replaceAll('your_auth_token_here', tenant.secret)
    .replaceAll('018f4a3e-0000-7000-8000-000000000001', tenant.user);
const codeOf = (language, tenant) =>
  adapt(
    blocks
      .filter((block) => block.language === language)
      .map(({ code }) => code)
      .join('\n'),
    tenant,
  );

// Compares the members of a documented answer with those of a real one; a member "…" stands for others.
function assertSameShape(documented, real, where) {
  if (Array.isArray(documented)) {
    assert.ok(Array.isArray(real) && real.length > 0, where);
    assertSameShape(documented[0], real[0], where);
  } else if (documented !== null && typeof documented === 'object') {
    const { '…': others, ...members } = documented;
    for (const [name, value] of Object.entries(members)) {
      assert.ok(name in real, `${where}: there is no ${name}`);
      if (value !== null && real[name] !== null) assert.equal(typeof real[name], typeof value, `${where}: ${name}`);
    }
    if (others === undefined)
      assert.deepEqual(
        Object.keys(real).filter((name) => !(name in members)),
        [],
        where,
      );
  }
}

test('curl: each example works and answers what stands below it', async () => {
  const tenant = await stack.newTenant({ numbers });
  let setup = 'set -euo pipefail\ncurl() { command curl -sS --fail-with-body "$@"; }\n';
  let answer = '';
  let shown = 0;
  for (const { language, code } of blocks) {
    if (language === 'json' && answer !== '') {
      assertSameShape(JSON.parse(code), JSON.parse(answer), code);
      shown += 1;
    }
    answer = '';
    if (language !== 'bash') continue;
    if (code.startsWith('API=')) setup += adapt(code, tenant);
    else
      answer = (
        await run('bash', ['-c', setup + adapt(code, tenant)]).catch((error) =>
          assert.fail(`${code}\n${error.stdout}${error.stderr}`),
        )
      ).stdout;
  }
  assert.equal(shown, 8);
});

test("the app's contacts come with the messages, each user's own", async () => {
  const [one, other] = [await stack.configuredTenant(), await stack.configuredTenant()];
  await stack.request('POST', '/api/contacts', { token: one.token, body: { phone_number: '+15558675310', name: 'Grace' } });
  for (const { token } of [one, other])
    for (const to_number of ['+15558675310', '+15558675311'])
      await stack.request('POST', '/api/twilio_messages', { token, body: { to_number, body: 'Hello' } });
  const get = async ({ token }, path) => (await stack.request('GET', `/api/${path}`, { token })).json;
  const messages = 'twilio_messages?select=to_number,contacts(name)&order=id';
  const grace = { to_number: '+15558675310', contacts: { name: 'Grace' } };
  const nobody = ['+15558675310', '+15558675311'].map((to_number) => ({ to_number, contacts: null }));
  assert.deepEqual(await get(one, messages), [grace, nobody[1]]);
  assert.deepEqual(await get(other, messages), nobody);
  const threads = 'contacts?select=name,messages(to_number,body)';
  assert.deepEqual(await get(one, threads), [{ name: 'Grace', messages: [{ to_number: '+15558675310', body: 'Hello' }] }]);
  assert.deepEqual(await get(other, threads), []);
});

test('Python with requests', async () => {
  const tenant = await stack.newTenant({ numbers });
  await run('/usr/bin/python3', ['-c', codeOf('python', tenant)]);
});

test('JavaScript with fetch and postgrest-js', async () => {
  const tenant = await stack.newTenant({ numbers });
  await run('node', ['--input-type=module', '-e', codeOf('js', tenant)], { cwd: join(checkout, 'test') }).catch(
    (error) => assert.fail(error.stderr),
  );
});

test('SQL', async () => {
  const tenant = await stack.newTenant({ numbers });
  const file = join(stack.dir, 'examples.sql');
  writeFileSync(file, codeOf('sql', tenant));
  await run(join(stack.bin, 'psql'), ['-Xq', '-v', 'ON_ERROR_STOP=1', '-d', 'postgres', '-f', file], {
    env: { ...process.env, PGHOST: stack.env.PGHOST, PGPORT: stack.env.PGPORT, PGUSER: 'postgres' },
  });
});

test('every table, view and function of the API is described', async () => {
  const names = await stack.sql(`SELECT DISTINCT name FROM (
    SELECT c.relname AS name FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v') AND c.relname LIKE 'twilio%'
    UNION ALL SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'twilio%') n ORDER BY 1`);
  assert.ok(names.length > 15);
  assert.deepEqual(
    names.flat().filter((name) => !text.includes(name)),
    [],
  );
});

test('every error message that the document names exists, and every column of the settings is there', async () => {
  const [[sources]] = await stack.sql(
    `SELECT string_agg(translate(p.prosrc, E'\\n\\t', '  '), ' ') FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN ('public', 'twilio_private')`,
  );
  const messages = text
    .split('\n')
    .filter((line) => /^\| 4\d\d /.test(line))
    .flatMap((line) => [...line.matchAll(/`([^`]+)`/g)].map(([, message]) => message));
  assert.ok(messages.length > 25);
  assert.deepEqual(
    messages.filter((message) => !sources.includes(message)),
    [],
  );
  // The other way round; but for what nobody meets who uses REST, or PT403 describes.
  const internal = [
    'message events are append-only',
    'the audit log is append-only',
    'the auth token was not kept',
    'the secret is not sealed',
    'webhook refused',
  ];
  assert.deepEqual(
    [...new Set([...sources.matchAll(/RAISE EXCEPTION '([^']+)'/g)].map(([, message]) => message))].filter(
      (message) => !text.includes(`\`${message}\``) && !internal.includes(message),
    ),
    [],
  );
  const engine = ['ask', 'secrets'].map((name) => readFileSync(join(checkout, `src/${name}.cpp`), 'utf8')).join();
  const refusals = [...engine.matchAll(/Failure\(\s*"(?:PT\d+|25006|55000|58P01)", "([^"]+)"/g)].map(([, message]) => message);
  assert.ok(refusals.length > 15);
  assert.deepEqual(
    refusals.filter((message) => !text.includes(`\`${message}\``)),
    [],
  );
  const columns = (
    await stack.sql(
      `SELECT attname FROM pg_attribute WHERE attrelid = 'twilio_settings'::regclass AND attnum > 0 AND NOT attisdropped`,
    )
  ).flat();
  assert.deepEqual(
    columns.filter((column) => !text.includes(`\`${column}\``)),
    [],
  );
});

test('the codes of refusals are in the list of errors, with their status', async () => {
  const rows = text
    .slice(text.indexOf('\n## Errors'))
    .split('\n')
    .filter((line) => /^\| [\dP]/.test(line))
    .map((line) => line.split('|').map((cell) => cell.trim()));
  const listed = (code, status) =>
    rows.some(
      ([, codes, statuses]) =>
        codes.split(', ').some((one) => (one.endsWith('…') ? code.startsWith(one.slice(0, -1)) : code === one)) &&
        (statuses === 'the same'
          ? code === String(status)
          : statuses
              .split(', ')
              .map((one) => one.split(' to ').map(Number))
              .some(([first, last = first]) => status >= first && status <= last)),
    );
  const { token } = await stack.configuredTenant();
  for (const [method, path, body, headers] of [
    ['GET', '/nowhere'],
    ['PUT', '/api/twilio-settings/verify'],
    ['PUT', '/api/twilio-settings/', ' '.repeat(17 << 20)],
    ['PUT', '/api/twilio-settings/', '{'],
    ['PUT', '/api/twilio-settings/', { sms_enabled: null }],
    ['PUT', '/api/twilio-settings/', { sms_enabled: 'perhaps' }],
    ['PUT', '/api/twilio-settings/', { auto_reply: 'x'.repeat(2000) }],
    ['PUT', '/api/twilio-settings/', { user_id: '018f4a3e-0000-7000-8000-000000000001' }],
    ['POST', '/api/twilio-settings/', { account_sid: 'x' }],
    ['GET', '/api/no_such_table'],
    ['GET', '/api/twilio_messages?no_such_column=eq.1'],
    ['POST', '/api/twilio_messages', { no_such_column: 1 }],
    ['POST', '/api/rpc/no_such_function', {}],
    ['GET', '/api/twilio_messages?offset=1000', undefined, { prefer: 'count=exact' }],
    ['GET', '/api/twilio_messages', undefined, { accept: 'image/png' }],
    ['GET', '/api/twilio_messages', undefined, { accept: 'application/vnd.pgrst.object+json' }],
    ['GET', '/api/rpc/twilio_verify'],
    ['POST', '/api/rpc/twilio_rotate_key', {}],
    ['POST', '/api/rpc/twilio_retry_message', { id: '018f4a3e-0000-7000-8000-000000000001' }],
    ['GET', '/api/rpc/twilio_messages_per_day?days=0'],
    ['GET', '/api/rpc/twilio_calls_per_day?days=0'],
  ]) {
    const { status, json } = await stack.request(method, path, { token, body, headers });
    assert.ok(status >= 400 && listed(json.code, status), `${method} ${path}: ${status} ${json?.code}`);
  }
  const conf = readFileSync(join(checkout, 'deploy/nginx.conf'), 'utf8');
  for (const [, status, code] of conf.matchAll(/return (\d+) '\{"code":"(\w+)"/g))
    assert.ok(listed(code, Number(status)), `nginx: ${status} ${code}`);
  const behind = await stack.request('GET', '/api/twilio_messages?offset=1000', { token });
  assert.deepEqual([behind.status, behind.json], [200, []]);
});

// The guide's own examples, taken out of its text and run; only the host is another one.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import { checkout, startStack } from './stack.mjs';

const run = promisify(execFile);
const USER = '018f4a3e-0000-7000-8000-000000000009';

// What the app has beside it: it answers with the request that it got.
const beside = createServer(async (request, response) => {
  const parts = await request.toArray();
  response.end(JSON.stringify({ method: request.method, headers: request.headers, body: parts.join('') }));
});
await new Promise((resolve) => {
  beside.listen(0, '127.0.0.1', resolve);
});

// The app signs users in; here it is one location of nginx that knows one user.
const stack = await startStack({
  site: (app) => ({
    'app.conf': `location ^~ /app { proxy_pass http://127.0.0.1:${beside.address().port}; }`,
    'login.conf': `location = /api/auth/login { default_type application/json; return 200 '{"access_token": "${app.token(USER)}"}'; }`,
  }),
});
after(async () => {
  beside.close();
  beside.closeAllConnections();
  await stack.stop();
});

const guide = readFileSync(join(checkout, 'test/rest/guide.md'), 'utf8').replaceAll(
  'https://sunstonecrm.com',
  stack.url,
);
const blocks = [...guide.matchAll(/(?:^### ([^\n]*)\n)?\n?^```(\w+)\n(.*?)^```/gms)].map(
  ([, title, language, code]) => ({ title: title?.replace(/:$/, ''), language, code }),
);
const example = (title) => blocks.find((block) => block.title === title).code;

async function shell(code, tenant) {
  const { stdout } = await run('bash', [
    '-c',
    code
      .replaceAll('YOUR_TOKEN', tenant.token)
      .replaceAll(`AC${'x'.repeat(32)}`, tenant.sid ?? '$&')
      .replaceAll('your_auth_token_here', tenant.secret ?? '$&')
      .replace(/^curl/gm, 'curl -sS'),
  ]);
  return JSON.parse(stdout);
}

test('the guide has the examples that are run here', () => {
  assert.deepEqual(
    blocks.map(({ title, language }) => [title, language]),
    [
      ['Create Twilio Settings', 'bash'],
      ['Get Settings', 'bash'],
      ['Verify Credentials', 'bash'],
      ['List Phone Numbers', 'bash'],
      ['Automated Testing', 'python'],
    ],
  );
});

test('curl: create, get, verify, list', async () => {
  const tenant = await stack.newTenant();
  const created = await shell(example('Create Twilio Settings'), tenant);
  assert.deepEqual(
    [created.account_sid, created.auth_token, created.phone_number],
    [tenant.sid, '••••••••', '+1234567890'],
  );
  assert.deepEqual(await shell(example('Get Settings'), tenant), created);
  assert.equal((await shell(example('Verify Credentials'), tenant)).verified, true);
  assert.deepEqual(
    (await shell(example('List Phone Numbers'), tenant)).map((number) => number.phone_number),
    [tenant.number],
  );
});

test('curl: the placeholders as they stand are refused with a sentence', async () => {
  const refused = await shell(example('Create Twilio Settings'), { token: stack.token(USER) });
  assert.deepEqual(
    [refused.message, refused.details],
    ['invalid auth token', 'An Auth Token has at least 32 characters, none of them a space or a line break.'],
  );
});

// Debian's python3 is the one with Debian's python3-requests.
const python = (code) => run('/usr/bin/python3', ['-c', code]).then(({ stdout }) => stdout);

test('Python: the example as it stands signs in and is told what is wrong with the placeholders', async () => {
  assert.match(await python(example('Automated Testing')), /'message': 'invalid account SID'/);
});

test('Python: with an account in it the example creates the settings', async () => {
  const account = await stack.newTenant();
  const printed = await python(
    example('Automated Testing').replace('AC...', account.sid).replace("'...'", `'${account.secret}'`),
  );
  assert.match(
    printed,
    new RegExp(`'account_sid': '${account.sid}', 'auth_token': '••••••••', 'phone_number': '\\+1234567890'`),
  );
});

test("a location of the app's own gets the request as the browser sent it", async () => {
  for (const type of ['application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'text/plain']) {
    const { json } = await stack.request('POST', '/app/upload', {
      headers: { 'content-type': type, cookie: 'a=b', authorization: 'Bearer x' },
      body: 'a=b',
    });
    assert.deepEqual(
      [json.method, json.body, json.headers['content-type'], json.headers.cookie, json.headers.authorization],
      ['POST', 'a=b', type, 'a=b', 'Bearer x'],
    );
    assert.equal(`http://${json.headers.host}`, stack.url);
  }
  const { json } = await stack.request('GET', '/app/');
  assert.equal(json.headers['content-type'], undefined);
});

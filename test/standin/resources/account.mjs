// The account itself, its balance and its API keys.

import { rfc2822 } from '../identifiers.mjs';
import { first } from '../parameters.mjs';
import { pageOf } from '../paging.mjs';
import { notFound } from '../errors.mjs';

const SUBRESOURCES = {
  addresses: 'Addresses', applications: 'Applications', authorized_connect_apps: 'AuthorizedConnectApps',
  available_phone_numbers: 'AvailablePhoneNumbers', balance: 'Balance', calls: 'Calls', conferences: 'Conferences',
  connect_apps: 'ConnectApps', incoming_phone_numbers: 'IncomingPhoneNumbers', keys: 'Keys', messages: 'Messages',
  notifications: 'Notifications', outgoing_caller_ids: 'OutgoingCallerIds', queues: 'Queues', recordings: 'Recordings',
  short_codes: 'SMS/ShortCodes', signing_keys: 'SigningKeys', sip: 'SIP', transcriptions: 'Transcriptions', usage: 'Usage',
};

function render(account) {
  const base = `/2010-04-01/Accounts/${account.sid}`;
  return {
    sid: account.sid,
    owner_account_sid: account.owner_account_sid,
    friendly_name: account.friendly_name,
    status: account.status,
    type: account.type,
    auth_token: account.token,
    date_created: rfc2822(account.created),
    date_updated: rfc2822(account.created),
    uri: `${base}.json`,
    subresource_uris: Object.fromEntries(Object.entries(SUBRESOURCES).map(([name, path]) => [name, `${base}/${path}.json`])),
  };
}

function renderKey(key) {
  const date = rfc2822(key.created ?? 0);
  return { sid: key.sid, friendly_name: key.friendly_name ?? null, date_created: date, date_updated: date };
}

function list(request) {
  const { world, account } = request;
  const mine = [...world.accounts.bySid.values()].filter((other) => other === account || other.owner_account_sid === account.sid);
  return { body: pageOf('accounts', mine, request, render) };
}

function balance({ account }) {
  return { body: { account_sid: account.sid, balance: account.balance, currency: 'USD' } };
}

function update({ account, form }) {
  account.friendly_name = first(form, 'FriendlyName') ?? account.friendly_name;
  account.status = first(form, 'Status') ?? account.status;
  return { body: render(account) };
}

function createKey({ world, account, form }) {
  const key = world.accounts.addKey(account, first(form, 'FriendlyName') ?? null);
  key.created = Date.now();
  return { status: 201, sid: key.sid, body: { ...renderKey(key), secret: key.secret } };
}

function deleteKey({ world, account, args, path }) {
  if (!account.keys.delete(args[1])) throw notFound(path);
  world.accounts.accountOfKey.delete(args[1]);
  return { status: 204 };
}

// A Standard API key may do everything but these.
export function addAccountRoutes(router) {
  const notForKeys = { key: false };
  router.add('api', 'GET', '/2010-04-01/Accounts.json', list, notForKeys);
  router.add('api', 'GET', '/2010-04-01/Accounts/{Sid}.json', ({ account }) => ({ body: render(account) }), notForKeys);
  router.add('api', 'POST', '/2010-04-01/Accounts/{Sid}.json', update, notForKeys);
  router.add('api', 'GET', '/2010-04-01/Accounts/{AccountSid}/Balance.json', balance);
  router.add('api', 'GET', '/2010-04-01/Accounts/{AccountSid}/Keys.json', (request) => ({ body: pageOf('keys', [...request.account.keys.values()], request, renderKey) }), notForKeys);
  router.add('api', 'POST', '/2010-04-01/Accounts/{AccountSid}/Keys.json', createKey, notForKeys);
  router.add('api', 'DELETE', '/2010-04-01/Accounts/{AccountSid}/Keys/{Sid}.json', deleteKey, notForKeys);
}

// The page: asks to sign in where there is no token, and puts the parts together.

import * as account from './account.js';
import * as messages from './messages.js';
import * as numbers from './numbers.js';
import * as send from './send.js';
import { $, announce, fieldError } from './page.js';
import { onSignedInElsewhere, onSignOut, signIn, token, userOfToken } from './session.js';

let user = null; // whose data the page shows
let listedFor = ''; // the account whose numbers are shown, and whether it was verified then

function askToSignIn(reason) {
  messages.stop();
  $('confirm-delete').close();
  $('workspace').hidden = true;
  $('sign-in').hidden = false;
  $('sign-in-reason').textContent = reason;
  $('status').dataset.state = 'missing';
  $('status-text').textContent = 'Signed out';
  document.title = 'Sign in – Twilio settings';
  announce(reason);
  $('sign-in-title').focus();
}

async function open() {
  const same = user !== null && user === userOfToken();
  user = userOfToken();
  if (!same) {
    $('confirm-delete').close();
    listedFor = '';
    messages.forget();
    numbers.forget();
    send.forget();
    account.clear();
  }
  $('sign-in').hidden = true;
  $('workspace').hidden = false;
  document.title = 'Twilio settings';
  // What was typed before a session ended is kept for the same user.
  await account.reload();
  if (token()) messages.start();
}

account.onSettings((settings) => {
  const now = settings ? `${settings.account_sid} ${settings.is_verified}` : 'none';
  if (now === listedFor) return;
  listedFor = now;
  numbers.load(settings);
});

$('sign-in-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const given = $('token').value.trim();
  const wellFormed = /^[\w-]+\.[\w-]+\.[\w-]+$/.test(given);
  fieldError('token', wellFormed ? '' : 'A token has three parts with dots between them.');
  if (!wellFormed) {
    $('token').focus();
    return;
  }
  $('token').value = '';
  signIn(given);
  open().then(() => {
    if (token()) $('main').focus();
  });
});

onSignOut(askToSignIn);
onSignedInElsewhere(() => {
  if (!token()) askToSignIn('You have signed out in the app.');
  else if (userOfToken() !== user || !$('sign-in').hidden) open();
});
if (token()) open();
else askToSignIn('Sign in in the app first; it opens this page with your token. Or enter a token here.');

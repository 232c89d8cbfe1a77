// The account: the form, saving, verifying, deleting, and the status on top of the page.
//
// Only what the user changed is sent, so two windows that change different fields do not undo each other. The token is
// write-only: it comes back masked and is never put into its field.

import { get, post, put, remove, Refusal } from './api.js';
import { $, announce, busy, clearErrors, fieldError, make, notice, plainNumber, when } from './page.js';
import * as numbers from './numbers.js';

const PATH = 'twilio-settings/';
const FIELDS = ['account_sid', 'auth_token', 'phone_number', 'sms_enabled', 'voice_enabled'];
const OTHER = 'other';
const AGAIN = 5000; // ms, while the settings could not be read at all
const channel = new BroadcastChannel('twilio-settings');
const form = $('settings-form');
const followers = [];
let stored = null; // as the server last said; null when there are no settings
let shown = {}; // what the form showed then
let version = 0; // how often this window has changed them
let told = ''; // what was last said to be wrong with them

export const settings = () => stored;
export function onSettings(follower) {
  followers.push(follower);
}

// ---- the form ----------------------------------------------------------------------------------

function entered() {
  return {
    account_sid: $('account_sid').value.trim(),
    auth_token: $('auth_token').value.trim(),
    phone_number: phoneNumber(),
    sms_enabled: $('sms_enabled').checked,
    voice_enabled: $('voice_enabled').checked,
  };
}

function phoneNumber() {
  const choice = $('phone_choice');
  return choice.hidden || choice.value === OTHER ? plainNumber($('phone_number').value) : choice.value;
}

// The members that differ from what was shown; an empty number is none.
function changes() {
  return Object.fromEntries(Object.entries(entered()).filter(([name, value]) => value !== shown[name]));
}

// All members that are not empty, for settings that do not exist yet.
function filledIn() {
  return Object.fromEntries(Object.entries(entered()).filter(([, value]) => value !== ''));
}

function offerNumbers() {
  const choice = $('phone_choice');
  const known = numbers.list();
  const now = phoneNumber();
  const listed = now === '' || known.some((number) => number.phone_number === now);
  const focused = document.activeElement;
  choice.hidden = known.length === 0;
  $('phone_number-label').htmlFor = choice.hidden ? 'phone_number' : 'phone_choice';
  choice.replaceChildren(
    new Option('None', ''),
    ...known.map((number) => new Option(numbers.label(number), number.phone_number)),
    new Option('Another number …', OTHER),
  );
  choice.value = listed ? now : OTHER;
  showOther();
  // Which of the two takes the other's place takes its focus, too.
  if (focused === choice && choice.hidden) $('phone_number').focus();
  if (focused === $('phone_number') && focused.hidden) choice.focus();
}

function showOther() {
  const choice = $('phone_choice');
  const typed = choice.hidden || choice.value === OTHER;
  $('phone_number').hidden = !typed;
  if (typed && !choice.hidden) $('phone_number').setAttribute('aria-label', 'Another phone number');
  else $('phone_number').removeAttribute('aria-label');
}

function setField(name, value) {
  const input = $(name);
  if (input.type === 'checkbox') {
    input.checked = value;
    return;
  }
  // Who has chosen to type another number, and has not begun, has none yet: that is left alone.
  const none = value === '' && name === 'phone_number' && phoneNumber() === '';
  input.value = value;
  if (name === 'phone_number' && !none) offerKnown(value);
}

function offerKnown(value) {
  const choice = $('phone_choice');
  if (!choice.hidden)
    choice.value = value === '' || [...choice.options].some((option) => option.value === value) ? value : OTHER;
  showOther();
}

// Takes over what the server says; what the user has changed meanwhile stays as it is typed.
function show(settings, { keep = true } = {}) {
  const edited = keep ? changes() : {};
  stored = settings;
  const next = {
    account_sid: settings?.account_sid ?? '',
    auth_token: '',
    phone_number: settings?.phone_number ?? '',
    sms_enabled: settings?.sms_enabled ?? true,
    voice_enabled: settings?.voice_enabled ?? true,
  };
  for (const name of FIELDS) if (!(name in edited)) setField(name, next[name]);
  shown = next;
  $('auth_token').placeholder = settings ? '••••••••' : '';
  $('auth_token').required = !settings;
  $('auth_token-help').textContent = settings
    ? 'Stored and sealed; nobody can read it. Leave this empty to keep it.'
    : 'At least 32 characters. It is sealed when you save it, and never shown again.';
  $('verify').hidden = !settings;
  $('delete').hidden = !settings;
  showStatus(settings);
  showFacts(settings);
  for (const follower of followers) follower(settings);
}

function showStatus(settings) {
  const place = $('status-text');
  $('status').dataset.state = !settings ? 'missing' : settings.is_verified ? 'verified' : 'unverified';
  if (!settings) place.replaceChildren('Not configured');
  else if (settings.is_verified)
    place.replaceChildren(make('strong', '', 'Verified'), ' ', when(settings.last_verified_at));
  else place.replaceChildren(make('strong', '', 'Not verified'));
  tell((!settings?.is_verified && settings?.verification_error) || '');
}

// Says what is wrong, or no more; once, however often the page looks. What came of an action stays until the next one.
function tell(text) {
  const box = $('account-notice');
  const seen = !box.hidden && box.dataset.kind === 'error' ? box.textContent : '';
  const ofAction = seen !== '' && seen !== told;
  told = text;
  if (!ofAction && seen !== text) notice('account-notice', 'error', text);
}

function showFacts(settings) {
  const facts = [
    ['Name at Twilio', settings?.account_name],
    ['Account', settings?.account_type && `${settings.account_type}, ${settings.account_status ?? 'status unknown'}`],
  ].filter(([, value]) => value);
  $('facts').hidden = facts.length === 0;
  $('facts').replaceChildren(
    ...facts.map(([name, value]) => make('div', '', make('dt', '', name), make('dd', '', value))),
  );
}

// ---- refusals -----------------------------------------------------------------------------------

// The field that a refusal is about: the server names it in its message.
function fieldOf(refusal) {
  if (refusal.status !== 400) return null;
  return (
    [
      [/account SID/i, 'account_sid'],
      [/auth token/i, 'auth_token'],
      [/phone.number/i, 'phone_number'],
    ].find(([pattern]) => pattern.test(refusal.message))?.[1] ?? null
  );
}

function refuse(error) {
  if (!(error instanceof Refusal)) throw error;
  if (error.status === 401) return;
  const field = fieldOf(error);
  if (!field) {
    notice('account-notice', 'error', error.sentence, { focus: true });
    return;
  }
  fieldError(field, error.sentence);
  const input = field === 'phone_number' && $('phone_number').hidden ? $('phone_choice') : $(field);
  input.focus();
}

// ---- what the buttons do --------------------------------------------------------------------------

function changed(settings, text) {
  version += 1;
  show(settings, { keep: settings !== null });
  channel.postMessage('changed');
  if (text) notice('account-notice', 'good', text);
}

// Saves what differs; what is typed until the answer comes is yet to be saved. Another window may have created or deleted
// the settings meanwhile: then the other verb is right.
async function store() {
  if ($('workspace').dataset.account) take(await read()); // what is stored says what differs
  const differing = changes();
  if (stored && Object.keys(differing).length === 0) return stored;
  const sent = entered();
  try {
    const saved = stored ? await put(PATH, differing) : await post(PATH, filledIn());
    shown = sent;
    return saved;
  } catch (error) {
    if (error instanceof Refusal && (error.status === 404 || error.code === '23505')) await reload();
    throw error;
  }
}

async function save() {
  clearErrors(form);
  notice('account-notice', 'good', '');
  try {
    changed(await store(), 'Settings saved.');
  } catch (error) {
    refuse(error);
  }
}

async function verify() {
  clearErrors(form);
  notice('account-notice', 'good', '');
  announce('Asking Twilio whether the credentials work.');
  $('status').dataset.state = 'loading';
  $('status-text').textContent = 'Verifying …';
  try {
    const saved = await store();
    if (saved !== stored) changed(saved);
    const answer = await post(`${PATH}verify`);
    changed(await get(PATH), answer.verified ? 'Twilio accepted the credentials.' : '');
    if (answer.verified) await numbers.refresh();
  } catch (error) {
    if (error.status !== 401) showStatus(stored);
    refuse(error);
  }
}

async function askAndDelete() {
  const dialog = $('confirm-delete');
  dialog.returnValue = '';
  dialog.showModal();
  await new Promise((resolve) => {
    dialog.addEventListener('close', resolve, { once: true });
  });
  if (dialog.returnValue !== 'delete') {
    $('delete').focus();
    return;
  }
  await busy($('delete'), 'Deleting …', async () => {
    try {
      await remove(PATH);
      numbers.forget();
      changed(null, 'Settings deleted.');
      $('account_sid').focus();
    } catch (error) {
      if (error instanceof Refusal && error.status === 404) await reload();
      refuse(error);
    }
  });
}

// Empties the form, for another user; what is typed from now on stays.
export function clear() {
  show(null, { keep: false });
  clearErrors(form);
  notice('account-notice', 'good', '');
  $('status').dataset.state = 'loading';
  $('status-text').textContent = 'Loading …';
  $('workspace').dataset.account = 'unknown';
}

// The settings, or null. What was on its way while they were changed may be from before that: they are read again.
async function read() {
  for (;;) {
    const before = version;
    const settings = await get(PATH).catch((error) => {
      if (error instanceof Refusal && error.status === 404) return null;
      throw error;
    });
    if (before === version) return settings;
  }
}

function take(settings) {
  show(settings);
  delete $('workspace').dataset.account;
}

// Reads the settings anew, for instance because another window changed them.
export async function reload() {
  try {
    take(await read());
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (error.status !== 401) {
      if ($('status').dataset.state === 'loading') {
        $('status').dataset.state = 'missing';
        $('status-text').textContent = 'Not available';
      }
      if ($('workspace').dataset.account) setTimeout(reload, AGAIN);
      tell(error.sentence);
    }
  }
}

form.addEventListener('submit', (event) => {
  event.preventDefault();
  busy($('save'), 'Saving …', save);
});
$('verify').addEventListener('click', () => busy($('verify'), 'Verifying …', verify));
$('delete').addEventListener('click', askAndDelete);
$('reveal').addEventListener('click', () => {
  const hidden = $('auth_token').type === 'password';
  $('auth_token').type = hidden ? 'text' : 'password';
  $('reveal').textContent = hidden ? 'Hide' : 'Show';
});
$('phone_choice').addEventListener('change', () => {
  showOther();
  if (!$('phone_number').hidden) {
    $('phone_number').value = '';
    $('phone_number').focus();
  }
});
numbers.onNumbers(offerNumbers);
const signedIn = () => !$('workspace').hidden;
channel.addEventListener('message', () => signedIn() && reload());
// What others did meanwhile, or Twilio: an account that it suspends is not verified any more.
const look = () => !document.hidden && signedIn() && reload();
document.addEventListener('visibilitychange', look);
setInterval(look, 60_000);

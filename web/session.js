// Who is signed in: the app's JSON Web Token. The app puts it into sessionStorage["twilio.jwt"], or opens the page with
// #token=…, which is taken over and removed from the address at once.

const KEY = 'twilio.jwt';
const watchers = [];
const storage = find();

// Where the browser keeps nothing for this page, the token is forgotten with it.
function find() {
  try {
    return sessionStorage;
  } catch {
    const kept = new Map();
    return {
      getItem: (key) => kept.get(key) ?? null,
      setItem: (key, value) => kept.set(key, value),
      removeItem: (key) => kept.delete(key),
    };
  }
}

function takeFromAddress() {
  const found = new URLSearchParams(location.hash.slice(1)).get('token');
  if (found === null) return;
  storage.setItem(KEY, found);
  history.replaceState(null, '', location.pathname + location.search);
}

export const token = () => storage.getItem(KEY) ?? '';

export function signIn(given) {
  storage.setItem(KEY, given);
}

// Forgets the token and asks to sign in again; `reason` tells the user why.
export function signOut(reason) {
  storage.removeItem(KEY);
  for (const watcher of watchers) watcher(reason);
}

export function onSignOut(watcher) {
  watchers.push(watcher);
}

// Calls `watcher` when a page of the app that frames this one has signed in somebody else, or nobody.
export function onSignedInElsewhere(watcher) {
  addEventListener('storage', ({ storageArea, key }) => {
    if (storageArea === storage && (key === KEY || key === null)) watcher();
  });
}

// The user that the token names, to notice when it becomes another one. Nothing is trusted because of it.
export function userOfToken() {
  try {
    return JSON.parse(atob(token().split('.')[1].replaceAll('-', '+').replaceAll('_', '/'))).sub ?? '';
  } catch {
    return '';
  }
}

takeFromAddress();
addEventListener('hashchange', () => {
  if (!location.hash.startsWith('#token=')) return;
  takeFromAddress();
  location.reload();
});

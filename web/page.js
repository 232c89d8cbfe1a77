// Small things that all parts of the page share: elements, notices, field errors, one action at a time.

export const $ = (id) => document.getElementById(id);

// make('li', 'class names', 'text' or child, …): texts are texts, never markup.
export function make(name, classes = '', ...content) {
  const element = document.createElement(name);
  if (classes) element.className = classes;
  element.append(...content);
  return element;
}

export function announce(text) {
  $('announcer').textContent = '';
  // A screen reader reads what changes after the region has been emptied.
  setTimeout(() => {
    $('announcer').textContent = text;
  }, 50);
}

export function notice(id, kind, text, { focus = false } = {}) {
  const box = $(id);
  box.hidden = !text;
  box.dataset.kind = kind;
  box.textContent = text ?? '';
  if (text && focus) box.focus();
  if (text && !focus) announce(text);
}

export function fieldError(field, text) {
  $(`${field}-error`).textContent = text ?? '';
  $(`${field}-error`).hidden = !text;
  for (const input of [$(field), field === 'phone_number' && $('phone_choice')]) {
    if (input) text ? input.setAttribute('aria-invalid', 'true') : input.removeAttribute('aria-invalid');
  }
}

export function clearErrors(form) {
  for (const place of form.querySelectorAll('.error')) fieldError(place.id.replace(/-error$/, ''), '');
}

// Runs one action of a button at a time; a second click while it runs does nothing. Its label says what goes on.
export async function busy(button, label, action) {
  if (button.getAttribute('aria-busy') === 'true') return undefined;
  const usual = button.textContent;
  button.setAttribute('aria-busy', 'true');
  button.setAttribute('aria-disabled', 'true');
  button.textContent = label;
  try {
    return await action();
  } finally {
    button.removeAttribute('aria-busy');
    button.removeAttribute('aria-disabled');
    button.textContent = usual;
  }
}

// A phone number as it is typed or pasted, without what is only for the eye; contact lists add marks that no eye sees.
export const plainNumber = (text) => text.replace(/[\s()./\p{Dash}\p{Cf}]/gu, '');

const dateFormat = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });

export function when(timestamp) {
  const element = make('time', '', timestamp ? dateFormat.format(new Date(timestamp)) : '');
  if (timestamp) element.dateTime = timestamp;
  return element;
}

// Messages per day as stacked bars, and the same as a table.

import { $, make } from './page.js';

const GROUPS = [
  ['delivered', 'Delivered', ['delivered', 'read']],
  ['received', 'Received', []],
  ['waiting', 'On the way', []],
  ['failed', 'Failed or canceled', ['failed', 'undelivered', 'unresolved', 'canceled']],
];
const WIDTH = 560;
const HEIGHT = 190;
const LEFT = 34;
const BOTTOM = 24;
const TOP = 10;

const svg = (name, attributes = {}, ...content) => {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...content);
  return element;
};

const groupOf = (row) =>
  row.direction === 'inbound'
    ? 'received'
    : (GROUPS.find(([, , statuses]) => statuses.includes(row.status))?.[0] ?? 'waiting');
// A day is a date without a time; UTC keeps it the same everywhere.
const dayName = (day, options) =>
  new Intl.DateTimeFormat(undefined, { timeZone: 'UTC', ...options }).format(new Date(`${day}T00:00:00Z`));

function perDay(rows) {
  const days = new Map();
  for (const row of rows) {
    if (!days.has(row.day)) days.set(row.day, Object.fromEntries(GROUPS.map(([name]) => [name, 0])));
    if (row.messages > 0) days.get(row.day)[groupOf(row)] += row.messages;
  }
  return [...days].sort(([a], [b]) => (a < b ? -1 : 1));
}

// The least round number with a round half that is not below the highest day.
function ceilingFor(highest) {
  for (let power = 1; ; power *= 10)
    for (const step of [4, 6, 8, 10, 12, 16, 20, 24, 30]) if (step * power >= highest) return step * power;
}

function bar(counts, day, x, width, scale) {
  const base = HEIGHT - BOTTOM;
  let y = base;
  const group = svg(
    'g',
    {},
    svg(
      'title',
      {},
      `${dayName(day, { dateStyle: 'full' })}: ${GROUPS.map(([name, label]) => `${counts[name]} ${label.toLowerCase()}`).join(', ')}`,
    ),
  );
  for (const [name] of GROUPS) {
    const height = counts[name] * scale;
    if (height === 0) continue;
    y -= height;
    group.append(
      svg('rect', { class: `bar-${name}`, x, y, width, height: Math.max(height - 1, 1), rx: Math.min(3, height / 2) }),
    );
  }
  return group;
}

function picture(days) {
  const total = (counts) => Object.values(counts).reduce((sum, count) => sum + count, 0);
  const ceiling = ceilingFor(Math.max(...days.map(([, counts]) => total(counts)), 1));
  const scale = (HEIGHT - BOTTOM - TOP) / ceiling;
  const step = (WIDTH - LEFT) / Math.max(days.length, 1);
  const width = Math.min(step * 0.62, 26);
  const all = days.reduce((sum, [, counts]) => sum + total(counts), 0);
  const image = svg('svg', {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: 'img',
    'aria-label': `Messages per day, ${all} in all. The table below has the figures.`,
  });
  for (const value of [0, ceiling / 2, ceiling]) {
    const y = HEIGHT - BOTTOM - value * scale;
    image.append(
      svg('line', { class: 'grid', x1: LEFT, x2: WIDTH, y1: y, y2: y }),
      svg('text', { x: LEFT - 8, y: y + 4, 'text-anchor': 'end' }, String(value)),
    );
  }
  days.forEach(([day, counts], position) => {
    const x = LEFT + position * step + (step - width) / 2;
    image.append(bar(counts, day, x, width, scale));
    if ((days.length - 1 - position) % 3 === 0) {
      image.append(
        svg(
          'text',
          { x: x + width / 2, y: HEIGHT - 6, 'text-anchor': 'middle' },
          dayName(day, { day: 'numeric', month: 'short' }),
        ),
      );
    }
  });
  return image;
}

function table(days) {
  const head = (text) => Object.assign(make('th', '', text), { scope: 'col' });
  return [
    make('thead', '', make('tr', '', head('Day'), ...GROUPS.map(([, label]) => head(label)))),
    make(
      'tbody',
      '',
      ...days.map(([day, counts]) =>
        make(
          'tr',
          '',
          Object.assign(make('th', '', dayName(day, { dateStyle: 'medium' })), { scope: 'row' }),
          ...GROUPS.map(([name]) => make('td', '', String(counts[name]))),
        ),
      ),
    ),
  ];
}

// Nothing is known, as of a user who has just signed in.
export function clear() {
  $('chart').replaceChildren();
  $('chart-table').replaceChildren();
}

// rows: {day, direction, status, messages}; a day without messages has one row with 0.
export function draw(rows) {
  const days = perDay(rows);
  $('chart').replaceChildren(picture(days));
  $('chart-table').replaceChildren(...table(days));
  $('legend').replaceChildren(...GROUPS.map(([name, label]) => make('li', `key-${name}`, label)));
}

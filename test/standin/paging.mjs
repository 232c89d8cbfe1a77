// Lists in pages, the v2010 way: PageSize, PageToken, and relative links to the other pages.

import { TwilioError } from './errors.mjs';
import { encodePairs, first } from './parameters.mjs';

const LARGEST = 1000;
const USUAL = 50;

function wholeNumber(text, usual) {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : usual;
}

// The token says where the page starts, as in "PA12"; a page before it starts with "PB".
function startOf(token) {
  if (token === undefined) return 0;
  const found = /^P[AB](\d+)$/.exec(token);
  if (!found) throw new TwilioError(21481);
  return Number(found[1]);
}

// Cuts one page out of `items` and wraps it: {<name>: […], page, page_size, start, end, uri, …}.
export function pageOf(name, items, { path, query }, render) {
  const size = wholeNumber(first(query, 'PageSize'), USUAL);
  if (size > LARGEST) throw new TwilioError(20007);
  if (size < 1) throw new TwilioError(20001, 'PageSize must be at least 1');
  const start = startOf(first(query, 'PageToken'));
  const page = wholeNumber(first(query, 'Page'), 0);
  const chosen = items.slice(start, start + size);
  const filters = query.filter(([key]) => !['Page', 'PageSize', 'PageToken'].includes(key));
  const link = (number, token) => `${path}?${encodePairs([...filters, ['PageSize', String(size)], ['Page', String(number)], ...(token ? [['PageToken', token]] : [])])}`;
  return {
    [name]: chosen.map(render),
    page,
    page_size: size,
    start,
    end: chosen.length === 0 ? start : start + chosen.length - 1,
    uri: query.length === 0 ? `${path}?PageSize=${size}&Page=0` : `${path}?${encodePairs(query)}`,
    first_page_uri: link(0),
    next_page_uri: start + size < items.length ? link(page + 1, `PA${start + size}`) : null,
    previous_page_uri: start > 0 ? link(Math.max(page - 1, 0), `PB${Math.max(start - size, 0)}`) : null,
  };
}

// Finds the operation that a request names: host's product, method and path.

import { notFound, TwilioError } from './errors.mjs';

const PRODUCT = /^([a-z-]+)(?:\.[a-z0-9-]+){0,2}\.twilio\.com(?::\d+)?$/;

export class Router {
  constructor() { this.byProduct = new Map(); }

  // Adds an operation; `template` is the path as Twilio's OpenAPI document spells it.
  add(product, method, template, handler, { key = true } = {}) {
    const pattern = new RegExp(`^${template.replaceAll('.', '\\.').replace(/\{\w+\}/g, '([^/]+?)')}$`);
    const routes = this.byProduct.get(product) ?? [];
    this.byProduct.set(product, routes);
    routes.push({ product, method, template, pattern, handler, standardKeyAllowed: key });
  }

  // Returns {route, args}; a path that is unknown or knows no such method is Twilio's 404 or 405.
  find(host, method, path) {
    const product = PRODUCT.exec(host)?.[1];
    const routes = this.byProduct.get(product);
    if (!routes) throw notFound(path);
    let known = false;
    for (const route of routes) {
      const found = route.pattern.exec(path);
      if (!found) continue;
      if (route.method === method) return { route, args: found.slice(1).map(decodeSegment) };
      known = true;
    }
    if (known) throw new TwilioError(20004);
    throw notFound(path);
  }
}

function decodeSegment(segment) {
  if (!segment.includes('%')) return segment;
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

// Twilio's official OpenAPI documents, made ready for ajv.
//
// The documents are looser than Twilio is (nothing is required in an answer) and in places stricter (null
// enums, empty strings for SIDs and URLs, numbers spelled as strings). Both are put right here.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const FOLDER = join(dirname(createRequire(import.meta.url).resolve('@twilio/cli-core/package.json')), 'src/services/twilio-api');
const FILES = { api: ['api_v2010'], numbers: ['numbers_v1', 'numbers_v2'], lookups: ['lookups_v2'], messaging: ['messaging_v1'] };

// Members that Twilio's own examples leave out of an answer.
const OFTEN_MISSING = new Set(['end', 'first_page_uri', 'next_page_uri', 'page', 'page_size', 'previous_page_uri', 'start', 'fax', 'status_last_time_updated_timestamp',
  'rejection_reason', 'rejection_reason_code', 'number_type', 'port_date']);
const UNPAGED = /AvailablePhoneNumbers|capabilities|phone_numbers/;

const documents = new Map();

function documentsOf(product) {
  if (!documents.has(product)) {
    documents.set(product, (FILES[product] ?? []).map((name) => JSON.parse(readFileSync(join(FOLDER, `twilio_${name}.json`), 'utf8'))));
  }
  return documents.get(product);
}

// Returns {operation, document} for a product's method and path template, or null if Twilio documents none.
export function findOperation(product, method, template) {
  for (const document of documentsOf(product)) {
    const path = document.paths[template];
    const operation = path?.[method.toLowerCase()];
    if (operation) return { document, operation, shared: path.parameters ?? [] };
  }
  return null;
}

function resolve(document, schema) {
  let found = schema;
  const nullable = schema.nullable;
  while (found.$ref) {
    found = found.$ref.slice(2).split('/').reduce((place, name) => place[name], document);
  }
  return nullable ? { ...found, nullable } : found;
}

function allowNull(schema) {
  if (schema.enum && !schema.enum.includes(null)) schema.enum = [...schema.enum, null];
  if (typeof schema.type === 'string') schema.type = [schema.type, 'null'];
  return schema;
}

// An enum or a pattern that the document does not call nullable may still be null or empty in an answer.
function answerString(schema) {
  const made = { type: 'string' };
  if (schema.enum) return allowNull({ ...made, enum: schema.enum });
  if (schema.format) made.format = `answer-${schema.format}`;
  if (schema.pattern) made.pattern = `${schema.pattern}|^$`;
  return schema.nullable || schema.pattern ? allowNull(made) : made;
}

// A member of a member: there the documents do not say what may be null, but their examples show it.
const NESTED = /^\/[a-z_]+\/[a-z_]+/;

// Turns the schema of an answer into one that demands every documented member and no other.
export function answerSchema(document, given, where = '') {
  let schema = resolve(document, given);
  if (NESTED.test(where)) schema = { ...schema, nullable: true };
  if (schema.type === 'array') {
    const made = { type: 'array', items: answerSchema(document, schema.items, where) };
    return schema.nullable || /errors$/.test(where) ? allowNull(made) : made;
  }
  if (schema.type === 'object' || schema.properties) {
    if (!schema.properties) return allowNull({ type: 'object' });
    const names = Object.keys(schema.properties);
    const made = {
      type: 'object',
      properties: Object.fromEntries(names.map((name) => [name, answerSchema(document, schema.properties[name], `${where}/${name}`)])),
      required: names.filter((name) => !(OFTEN_MISSING.has(name) && UNPAGED.test(where))),
      additionalProperties: false,
    };
    return schema.nullable || where !== '' ? allowNull(made) : made;
  }
  if (schema.type === 'string' || schema.enum) return answerString(schema);
  if (schema.type === 'number') return allowNull({ type: ['number', 'string'], format: 'answer-decimal' });
  if (schema.type === 'integer' || schema.type === 'boolean') return schema.nullable ? { type: [schema.type, 'null'] } : { type: schema.type };
  return {};
}

// Turns the schema of request parameters into one for strings as they come off the wire.
export function requestSchema(document, given) {
  const schema = resolve(document, given);
  if (schema.type === 'array') return { type: 'array', items: requestSchema(document, schema.items) };
  const made = { type: 'string' };
  if (schema.enum) made.enum = schema.enum;
  if (schema.pattern) made.pattern = `${schema.pattern}|^$`;
  if (schema.type === 'integer') Object.assign(made, { format: 'request-integer', ...bounds(schema) });
  else if (schema.type === 'number') made.format = 'request-number';
  else if (schema.type === 'boolean') made.enum = ['true', 'false'];
  else if (schema.format && schema.format !== 'phone-number') made.format = `request-${schema.format}`;
  return made;
}

function bounds(schema) {
  return { ...(schema.minimum === undefined ? {} : { wholeAtLeast: schema.minimum }), ...(schema.maximum === undefined ? {} : { wholeAtMost: schema.maximum }) };
}

// Turns the schema of a JSON request body into one that refuses members Twilio does not know.
export function jsonRequestSchema(document, given) {
  const schema = resolve(document, given);
  if (schema.type === 'array') {
    const made = { type: 'array', items: jsonRequestSchema(document, schema.items) };
    if (schema.minItems) made.minItems = schema.minItems;
    return schema.nullable ? allowNull(made) : made;
  }
  if (schema.properties) {
    const properties = Object.fromEntries(Object.entries(schema.properties).map(([name, member]) => [name, jsonRequestSchema(document, member)]));
    const made = { type: 'object', properties, required: schema.required ?? [], additionalProperties: false };
    return schema.nullable ? allowNull(made) : made;
  }
  const made = {};
  for (const name of ['type', 'enum', 'pattern', 'minLength', 'maxLength']) if (schema[name] !== undefined) made[name] = schema[name];
  if (schema.format === 'date' || schema.format === 'email') made.format = schema.format;
  return schema.nullable ? allowNull(made) : made;
}

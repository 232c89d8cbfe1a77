// Checks every request and every answer against Twilio's OpenAPI documents, and keeps the mismatches.
//
// Validators are compiled when an operation is first seen, so that the stand-in starts at once.

import Ajv from 'ajv';
import addFormats from 'ajv-formats';
import { answerSchema, findOperation, jsonRequestSchema, requestSchema } from './openapi.mjs';

const KEPT = 1000;
const RFC_2822 = /^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{2} (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d{2}:\d{2}:\d{2} [+-]\d{4}$/;
const ISO_8601 = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$/;
const DATE = /^\d{4}-\d{2}-\d{2}$/;
const PHONE = /^(\+[1-9]\d{1,14}|\d{3,8}|[A-Za-z0-9 &+_-]{1,11}|[a-z]+:.+|\(\d{3}\) \d{3}-\d{4})$/;

const ERROR_SCHEMA = {
  type: 'object',
  properties: {
    code: { type: 'integer' }, message: { type: 'string' }, more_info: { type: 'string', format: 'uri' }, status: { type: 'integer' }, details: { type: 'object' },
  },
  required: ['code', 'message', 'more_info', 'status'],
  additionalProperties: false,
};

function absolute(text) {
  return URL.canParse(text) && /^https?:\/\/[^/]/.test(text);
}

const FORMATS = {
  'answer-date-time-rfc-2822': RFC_2822,
  'answer-date-time': ISO_8601,
  'answer-date': DATE,
  'answer-uri': (text) => text === '' || text.startsWith('/') || absolute(text),
  'answer-phone-number': PHONE,
  'answer-currency': /^[A-Za-z]{3}$/,
  'answer-iso-country-code': /^[A-Z]{2}$/,
  'answer-http-method': /^(GET|POST)$/,
  'answer-email': /@/,
  'answer-decimal': /^-?\d+(\.\d+)?$/,
  'request-integer': /^\d+$/,
  'request-number': /^-?\d+(\.\d+)?$/,
  'request-date-time': (text) => DATE.test(text) || ISO_8601.test(text),
  'request-date': (text) => DATE.test(text) || /^[+-]\d+days$/.test(text),
  'request-uri': (text) => text === '' || absolute(text),
  'request-http-method': /^(GET|POST)$/,
  'request-iso-country-code': /^[A-Z]{2}$/,
  'request-email': /@/,
};

function makeAjv() {
  const ajv = new Ajv({ allErrors: true, strict: false, validateFormats: true });
  addFormats(ajv);
  for (const [name, format] of Object.entries(FORMATS)) ajv.addFormat(name, format);
  for (const kind of ['answer', 'request']) for (const name of ['endpoint', 'twiml', 'currency', 'uri-map', 'int64', 'int32', 'float', 'phone-number']) if (!(`${kind}-${name}` in FORMATS)) ajv.addFormat(`${kind}-${name}`, true);
  ajv.addKeyword({ keyword: 'wholeAtLeast', type: 'string', validate: (least, text) => Number(text) >= least });
  ajv.addKeyword({ keyword: 'wholeAtMost', type: 'string', validate: (most, text) => Number(text) <= most });
  return ajv;
}

// Groups pairs into an object; parameters that the schema calls arrays are arrays, even with one value.
function grouped(pairs, schema) {
  const params = {};
  for (const [name, value] of pairs) {
    const isArray = schema.properties[name]?.type === 'array';
    if (isArray) (params[name] ??= []).push(value);
    else if (Object.hasOwn(params, name)) params[name] = [params[name], value].flat();
    else Object.defineProperty(params, name, { value, enumerable: true, configurable: true, writable: true });
  }
  return params;
}

export class Conformance {
  constructor(enabled) {
    this.enabled = enabled;
    this.operations = new Map();
    this.clear();
  }

  clear() {
    this.count = 0;
    this.kept = [];
  }

  report(n, side, operation, errors) {
    this.count += 1;
    if (this.kept.length < KEPT) this.kept.push({ n, side, operation, errors });
  }

  // Compiles the validators of a route's operation: {id, path, query, form, json, answers}.
  validatorsOf(route) {
    const known = this.operations.get(route);
    if (known !== undefined) return known;
    this.ajv ??= makeAjv();
    this.errorAnswer ??= this.ajv.compile(ERROR_SCHEMA);
    const found = findOperation(route.product, route.method, route.template);
    const made = found && this.compile(found);
    this.operations.set(route, made);
    return made;
  }

  compile({ document, operation, shared }) {
    const parameters = [...shared, ...(operation.parameters ?? [])];
    const part = (place) => this.parameterValidator(document, parameters.filter((parameter) => parameter.in === place));
    const content = operation.requestBody?.content ?? {};
    const form = content['application/x-www-form-urlencoded']?.schema;
    const json = content['application/json']?.schema;
    const answers = {};
    for (const [status, response] of Object.entries(operation.responses)) {
      const schema = response.content?.['application/json']?.schema;
      answers[status] = schema ? this.ajv.compile(answerSchema(document, schema, unpaged(operation))) : null;
    }
    return {
      id: operation.operationId,
      path: part('path'),
      pathNames: parameters.filter((parameter) => parameter.in === 'path').map((parameter) => parameter.name),
      query: part('query'),
      form: this.formValidator(document, form),
      json: json ? this.ajv.compile(jsonRequestSchema(document, json)) : null,
      answers,
    };
  }

  parameterValidator(document, parameters) {
    const properties = Object.fromEntries(parameters.map((parameter) => [parameter.name, requestSchema(document, parameter.schema)]));
    return this.ajv.compile({ type: 'object', properties, required: parameters.filter((parameter) => parameter.required).map((parameter) => parameter.name), additionalProperties: false });
  }

  formValidator(document, schema) {
    const properties = Object.fromEntries(Object.entries(schema?.properties ?? {}).map(([name, member]) => [name, requestSchema(document, member)]));
    return this.ajv.compile({ type: 'object', properties, required: schema?.required ?? [], additionalProperties: false });
  }

  // Checks one request and its honest answer.
  check(n, exchange, done) {
    if (!this.enabled) return;
    const { route } = done;
    const operation = route ? this.validatorsOf(route) : null;
    if (!operation) {
      if (done.status !== 401) this.report(n, 'request', `${exchange.method} ${done.path}`, ['Twilio documents no such operation on this host, or the stand-in does not know it']);
      return;
    }
    this.checkRequest(n, operation, done, exchange);
    this.checkAnswer(n, operation, done);
  }

  checkRequest(n, operation, done, exchange) {
    const say = (validator, data, place) => {
      if (!validator(data)) this.report(n, 'request', operation.id, validator.errors.map((error) => `${place}${error.instancePath} ${error.message} ${JSON.stringify(error.params)}`));
    };
    say(operation.path, Object.fromEntries(operation.pathNames.map((name, index) => [name, done.args[index]])), 'path');
    say(operation.query, grouped(done.query, operation.query.schema), 'query');
    if (operation.json) {
      if (done.json === undefined) this.report(n, 'request', operation.id, ['body must be JSON']);
      else say(operation.json, done.json, 'body');
      return;
    }
    if (exchange.body !== '' && !/^application\/x-www-form-urlencoded(;|$)/.test(exchange.headers['content-type'] ?? '')) {
      this.report(n, 'request', operation.id, [`body must be a form, not ${exchange.headers['content-type']}`]);
    }
    say(operation.form, grouped(done.form ?? [], operation.form.schema), 'form');
  }

  checkAnswer(n, operation, done) {
    if (done.status === 0) return;
    if (done.status >= 400) {
      if (!this.errorAnswer(JSON.parse(done.body))) this.report(n, 'answer', operation.id, this.errorAnswer.errors.map((error) => `${error.instancePath} ${error.message}`));
      return;
    }
    const validator = operation.answers[done.status];
    if (validator === undefined) this.report(n, 'answer', operation.id, [`status ${done.status} is not documented`]);
    else if (validator === null && done.body !== '') this.report(n, 'answer', operation.id, [`status ${done.status} has no body`]);
    else if (validator && !validator(JSON.parse(done.body))) {
      this.report(n, 'answer', operation.id, validator.errors.map((error) => `${error.instancePath} ${error.message} ${JSON.stringify(error.params)}`));
    }
  }
}

// Lists of numbers to buy come without paging members, as Twilio's examples show.
function unpaged(operation) {
  return operation.operationId.startsWith('ListAvailablePhoneNumber') ? 'AvailablePhoneNumbers' : '';
}

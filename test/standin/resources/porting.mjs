// Porting numbers to Twilio: whether it is possible, and port-in requests. Host numbers.twilio.com, JSON bodies.

import { E164, iso8601, newSid } from '../identifiers.mjs';
import { notFound, TwilioError } from '../errors.mjs';
import { first } from '../parameters.mjs';

const LEAD = 7 * 86_400_000;

function portability({ world, args, path }) {
  const number = args[0];
  if (!E164.test(number)) throw notFound(path);
  const owner = [...world.accounts.bySid.values()].find((account) => account.numbers.has(number));
  const american = number.startsWith('+1');
  const reason = owner ? ['ALREADY_IN_TWILIO_DIFFERENT_OWNER', 22132] : american ? [null, null] : ['MANUAL_PORTING_AVAILABLE', 22133];
  return {
    body: {
      phone_number: number, account_sid: owner?.sid ?? null, portable: reason[1] === null, pin_and_account_number_required: false,
      not_portable_reason: reason[0], not_portable_reason_code: reason[1], number_type: american ? 'LOCAL' : 'UNKNOWN', country: american ? 'US' : null,
      url: `https://numbers.twilio.com/v1/Porting/Portability/PhoneNumber/${number}`,
    },
  };
}

function checkNew(account, order) {
  const invalid = (what) => { throw new TwilioError(20001, what); };
  if (order === null || typeof order !== 'object' || Array.isArray(order)) invalid('The request body must be a JSON object');
  if (order.account_sid !== account.sid) invalid('account_sid must be the account that asks');
  if (!Array.isArray(order.documents) || order.documents.length === 0) invalid('documents must name a utility bill');
  if (!Array.isArray(order.phone_numbers) || order.phone_numbers.length === 0 || order.phone_numbers.length > 1000) invalid('phone_numbers must have 1 to 1000 entries');
  if (!order.phone_numbers.every((entry) => E164.test(entry?.phone_number ?? ''))) invalid('phone_numbers must be E.164');
  const carrier = order.losing_carrier_information;
  if (!carrier?.customer_name || !carrier.authorized_representative || !carrier.authorized_representative_email) invalid('losing_carrier_information is incomplete');
  if (order.target_port_in_date && Date.parse(order.target_port_in_date) < Date.now() - 86_400_000 + LEAD) invalid('target_port_in_date must be at least 7 days ahead');
}

function render(portIn) {
  const { order } = portIn;
  const carrier = { account_number: null, account_telephone_number: null, address_sid: null, address: null, customer_type: null,
    authorized_representative_katakana: null, sub_municipality: null, building: null, katakana_name: null, ...order.losing_carrier_information };
  if (carrier.address) carrier.address = { street_2: null, ...carrier.address };
  return {
    port_in_request_sid: portIn.sid, url: `https://numbers.twilio.com/v1/Porting/PortIn/${portIn.sid}`, account_sid: order.account_sid,
    notification_emails: order.notification_emails ?? [], target_port_in_date: order.target_port_in_date ?? null,
    target_port_in_time_range_start: order.target_port_in_time_range_start ?? null, target_port_in_time_range_end: order.target_port_in_time_range_end ?? null,
    port_in_request_status: portIn.status, order_cancellation_reason: null, losing_carrier_information: carrier,
    phone_numbers: order.phone_numbers.map((entry, n) => ({
      phone_number: entry.phone_number, portable: true, not_portability_reason: null, not_portability_reason_code: null, number_type: 'LOCAL', port_date: null,
      port_in_phone_number_sid: portIn.numberSids[n], port_in_phone_number_status: portIn.status, rejection_reason: null, rejection_reason_code: null,
      status_last_time_updated_timestamp: iso8601(portIn.created), external_porting_vendor_phone_number_id: null,
    })),
    bundle_sid: order.bundle_sid ?? null, portability_advance_carrier: order.portability_advance_carrier ?? null,
    auto_cancel_approval_numbers: order.auto_cancel_approval_numbers ?? null, documents: order.documents, date_created: iso8601(portIn.created), support_ticket_id: 123456,
    signature_request_url: null,
  };
}

function create({ account, json }) {
  checkNew(account, json);
  const portIn = { sid: newSid('KW'), order: json, status: 'In Review', created: Date.now(), numberSids: json.phone_numbers.map(() => newSid('PU')) };
  account.portIns.set(portIn.sid, portIn);
  return { status: 202, sid: portIn.sid, body: render(portIn) };
}

function find({ account, args, path }) {
  const portIn = account.portIns.get(args[0]);
  if (!portIn) throw notFound(path);
  return portIn;
}

// The token of a page is the SID of its first request.
function list({ account, query }) {
  const all = [...account.portIns.values()];
  const size = Number(first(query, 'Size') ?? 20);
  const token = first(query, 'Token');
  const start = token === undefined ? 0 : all.findIndex((portIn) => portIn.sid === token);
  if (start < 0) throw new TwilioError(20001, 'Token is none of this list');
  return {
    body: {
      port_in_requests: all.slice(start, start + size).map(({ sid, status, created, order }) => ({
        port_in_request_sid: sid, port_in_request_status: status, status_last_updated_timestamp: iso8601(created),
        phone_numbers_requested: order.phone_numbers.length, phone_numbers_ported: 0, suggested_action: null,
      })),
      meta: { previous_token: all[start - size]?.sid ?? null, next_token: all[start + size]?.sid ?? null },
    },
  };
}

function cancel(request) {
  find(request).status = 'Canceled';
  return { status: 204 };
}

export function addPortingRoutes(router) {
  router.add('numbers', 'GET', '/v1/Porting/Portability/PhoneNumber/{PhoneNumber}', portability);
  router.add('numbers', 'POST', '/v1/Porting/PortIn', create);
  router.add('numbers', 'GET', '/v1/Porting/PortIn/PortInRequests', list);
  router.add('numbers', 'GET', '/v1/Porting/PortIn/{PortInRequestSid}', (request) => ({ body: render(find(request)) }));
  router.add('numbers', 'DELETE', '/v1/Porting/PortIn/{PortInRequestSid}', cancel);
}

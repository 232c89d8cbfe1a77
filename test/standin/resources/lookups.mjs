// Lookup v2: what Twilio knows about any phone number. Host lookups.twilio.com.

import { notFound } from '../errors.mjs';
import { first } from '../parameters.mjs';

const PACKAGES = ['caller_name', 'sim_swap', 'call_forwarding', 'line_type_intelligence', 'line_status', 'identity_match', 'reassigned_number', 'sms_pumping_risk',
  'phone_number_quality_score', 'pre_fill'];
const COUNTRIES = { 1: 'US', 44: 'GB', 49: 'DE', 33: 'FR' };

// Returns what is wrong with a number, or null.
function fault(digits) {
  if (!/^\d+$/.test(digits)) return 'NOT_A_NUMBER';
  if (digits.startsWith('1')) return digits.length > 11 ? 'TOO_LONG' : digits.length < 11 ? 'TOO_SHORT' : null;
  return digits.length > 15 ? 'TOO_LONG' : digits.length < 8 ? 'TOO_SHORT' : null;
}

const DETAILS = {
  caller_name: () => ({ caller_name: 'Sample Person', caller_type: 'CONSUMER', error_code: null }),
  line_type_intelligence: () => ({ error_code: null, mobile_country_code: '310', mobile_network_code: '456', carrier_name: 'Sample Wireless', type: 'mobile' }),
};

function fetch({ args, query, path }) {
  const asked = args[0];
  const plain = asked.replace(/[\s().-]/g, '');
  if (!/^\+?\d/.test(plain)) throw notFound(path);
  const digits = plain.startsWith('+') ? plain.slice(1) : first(query, 'CountryCode') === 'US' || plain.length === 10 ? `1${plain}` : plain;
  const wrong = fault(digits);
  const code = Object.keys(COUNTRIES).find((prefix) => digits.startsWith(prefix)) ?? null;
  const fields = (first(query, 'Fields') ?? '').split(',').filter(Boolean);
  const body = {
    calling_country_code: wrong ? null : code,
    country_code: wrong || code === null ? null : COUNTRIES[code],
    phone_number: `+${digits}`,
    national_format: wrong ? null : digits.replace(/^1(\d{3})(\d{3})(\d{4})$/, '($1) $2-$3'),
    valid: wrong === null,
    validation_errors: wrong === null ? null : [wrong],
    url: `https://lookups.twilio.com/v2/PhoneNumbers/+${digits}`,
  };
  for (const name of PACKAGES) body[name] = wrong === null && fields.includes(name) && name in DETAILS ? DETAILS[name]() : null;
  return { body };
}

export function addLookupRoutes(router) {
  router.add('lookups', 'GET', '/v2/PhoneNumbers/{PhoneNumber}', fetch);
}

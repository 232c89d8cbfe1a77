// Twilio's errors: code, HTTP status, sentence, and the body they travel in.

const ERRORS = {
  10001: [403, 'Account is not active'],
  20001: [400, 'Invalid parameter'],
  20003: [401, 'Authenticate'],
  20004: [405, 'Method not allowed'],
  20005: [403, 'Account not active'],
  20007: [400, 'Page size exceeds the maximum of 1000'],
  20008: [403, 'Resource not accessible with Test Account Credentials'],
  20009: [409, 'Cannot delete this resource before it is complete'],
  20403: [403, 'Forbidden'],
  20404: [404, 'The requested resource was not found'],
  20429: [429, 'Too Many Requests'],
  20500: [500, 'An internal server error has occurred'],
  20503: [503, 'Service unavailable'],
  21201: [400, "No 'To' number is specified"],
  21205: [400, 'Url parameter is required.'],
  21210: [400, "The source phone number provided is not yet verified for your account"],
  21211: [400, "Invalid 'To' Phone Number"],
  21212: [400, "Invalid 'From' Phone Number"],
  21213: [400, "No 'From' number is specified"],
  21214: [400, "The 'To' phone number cannot be reached"],
  21215: [400, 'Account not authorized to call this number'],
  21216: [400, 'Account not allowed to call this number'],
  21217: [400, 'Phone number does not appear to be valid'],
  21219: [400, "The 'To' phone number is not verified for your trial account"],
  21220: [400, 'Call is not in-progress. Cannot redirect.'],
  21402: [400, 'Url is not a valid URL'],
  21404: [400, 'Trial accounts cannot purchase more phone numbers'],
  21408: [400, 'Permission to send an SMS has not been enabled for the region indicated by the To number'],
  21421: [400, 'PhoneNumber is invalid'],
  21422: [400, 'PhoneNumber is not available'],
  21452: [400, 'No phone numbers found in area code'],
  21481: [400, 'Invalid PageToken'],
  21602: [400, 'Message body is required.'],
  21603: [400, "A 'From' phone number is required."],
  21604: [400, "A 'To' phone number is required."],
  21606: [400, "The 'From' phone number provided is not a valid message-capable Twilio phone number for this destination"],
  21608: [400, "The number is unverified. Trial accounts cannot send messages to unverified numbers; verify it, or purchase a Twilio number to send messages to unverified numbers"],
  21609: [400, "The 'StatusCallback' URL is not a valid URL"],
  21610: [400, 'Attempt to send to unsubscribed recipient'],
  21611: [400, "This 'From' number has exceeded the maximum number of queued messages"],
  21612: [400, "Message cannot be sent with the current combination of 'To' and/or 'From' parameters"],
  21614: [400, "'To' number is not a valid mobile number"],
  21617: [400, 'The concatenated message body exceeds the 1600 character limit'],
  21620: [400, 'Invalid media URL(s)'],
  21623: [400, 'Number of media files exceeds allowed limit'],
  21624: [400, 'The ValidityPeriod is invalid'],
  21705: [400, 'The Messaging Service Sid is invalid'],
  32018: [400, 'Twiml is longer than 4000 characters'],
  30400: [400, 'Invalid parameters for message update'],
  30409: [409, 'Message cannot be canceled because it is no longer in a cancelable state'],
};

// A refusal that a resource answers with; `message` replaces the usual sentence.
export class TwilioError extends Error {
  constructor(code, message, status) {
    const [usualStatus, usualMessage] = ERRORS[code] ?? [400, 'Error'];
    super(message ?? usualMessage);
    this.code = code;
    this.status = status ?? usualStatus;
  }
}

export function errorBody(error) {
  return {
    code: error.code,
    message: error.message,
    more_info: `https://www.twilio.com/docs/errors/${error.code}`,
    status: error.status,
  };
}

export function notFound(path) {
  return new TwilioError(20404, `The requested resource ${path} was not found`);
}

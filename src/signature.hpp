// Twilio's X-Twilio-Signature: made and checked as Twilio's own SDK does it.
//
// HMAC-SHA1 over the URL, followed by every parameter name and value in the
// order of their names. A JSON body is not part of it; instead the signed URL
// carries the body's SHA-256 in bodySHA256.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "form.hpp"

namespace twilio {

// Base64 of the signature. `parameters` in any order.
std::string sign(std::string_view token, std::string_view url, const Parameters& parameters);

// True when the signature fits the URL as it is, without its port, or with one (443 or 80 if it names none).
// Takes the same time wherever two signatures differ.
bool validSignature(std::string_view token, std::string_view url, const Parameters& parameters,
                    std::string_view signature);

// The bodySHA256 of the query string.
std::optional<std::string> bodyHash(std::string_view url);
bool validBodyHash(std::string_view hash, std::string_view body);

// A whole webhook: a form, a GET or a body whose hash is in the URL. A body that the signature does not cover
// is refused. `parameters` are those of the form body, and empty for everything else.
struct Webhook {
    std::string_view url;
    std::string_view body;
    const Parameters& parameters;
};
bool validWebhook(std::string_view token, const Webhook& webhook, std::string_view signature);

} // namespace twilio

// Twilio's X-Twilio-Signature: made and checked as Twilio's own SDK does it.
//
// HMAC-SHA1 over the URL, followed by every parameter name and value in the
// order of their names. A JSON body is not part of it; instead the signed URL
// carries the body's SHA-256 in bodySHA256.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "form.hpp"

struct evp_md_ctx_st;

namespace twilio {

// What HMAC makes of an auth token before it sees a message: the states of its two hashes. It signs as the token
// does and cannot be turned back into it, so unlike the token it may be kept.
class SigningKey {
public:
    explicit SigningKey(std::string_view token);

    std::string mac(std::string_view text) const; // in Base64

private:
    struct Freed {
        void operator()(evp_md_ctx_st* hash) const noexcept;
    };
    std::unique_ptr<evp_md_ctx_st, Freed> inner_;
    std::unique_ptr<evp_md_ctx_st, Freed> outer_;
};

// Base64 of the signature. `parameters` in any order.
std::string sign(const SigningKey& key, std::string_view url, const Parameters& parameters);

// True when the signature fits the URL as it is, without its port, or with one (443 or 80 if it names none).
// Takes the same time wherever two signatures differ.
bool validSignature(const SigningKey& key, std::string_view url, const Parameters& parameters,
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
bool validWebhook(const SigningKey& key, const Webhook& webhook, std::string_view signature);

} // namespace twilio

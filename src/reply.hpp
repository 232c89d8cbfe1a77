// What came back from Twilio, and what it means.
//
// Transport tells how the exchange ended, and above all whether Twilio may have
// seen the request: `unreachable` promises that it has not, every other failure
// promises nothing. interpret() turns that into the fate of an order; a request
// that may have been taken is never to be repeated blindly, so in doubt the
// answer is Unknown.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "clock.hpp"

namespace twilio {

enum class Transport {
    answered,    // a whole answer with a status
    unreachable, // failed before a byte of the request was sent, or refused unprocessed by HTTP/2
    timed_out,   // sent, and no whole answer in time
    lost,        // sent, and the connection broke
    too_large,   // the answer was cut off at its permitted size
    canceled,    // by us
};

struct Reply {
    std::uint64_t id = 0;
    Transport transport = Transport::unreachable;
    long status = 0;
    std::string body;
    std::string requestId; // Twilio-Request-Id
    std::optional<std::chrono::seconds> retryAfter;
    std::int64_t date = 0; // Twilio's clock when it answered (RFC 9110, Date), seconds since 1970; 0: it does not say
    std::chrono::microseconds duration{0};
    std::string error; // what curl says, for a log: no secret, no body
};

// Twilio took the order.
struct Sent {
    std::string sid; // empty where the answer names none
};

// Twilio did not take it and will not have: make the request again, not before `at`.
struct RetryAt {
    TimePoint at;
    int code = 0;
    std::string message;
};

// Twilio said no, for good.
struct Rejected {
    int code = 0;
    std::string message;
    bool accountTrouble = false; // no other order of this account would fare better: open its breaker
};

// Twilio may or may not have taken it: look there before anything is sent again.
struct Unknown {
    std::string reason;
};

using Outcome = std::variant<Sent, RetryAt, Rejected, Unknown>;

// The fate of an order, a request that changes something. `attempt` counts from 1.
Outcome interpret(const Reply& reply, TimePoint now, int attempt, double random01);

// The number and the sentence with which an answer of 400 or more explains itself: Twilio's own, or what the
// status alone tells where the body is empty, HTML or broken.
struct Refusal {
    int code = 0;
    std::string message;
};
Refusal explain(const Reply& reply);

// 20003 and its kin: the account, not the request, is refused.
bool isAccountTrouble(long status, int code);

// A whole JSON answer, or an empty one where that is right (204, and what says no without words).
bool isWellFormed(const Reply& reply);

// The word for the audit log: ok, refused, rate limited, server error, unreachable, timeout, broken, canceled.
std::string auditOutcome(const Reply& reply);

} // namespace twilio

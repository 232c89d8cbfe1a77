// An order as the worker holds it: claimed in sql/orders.sql, with the request that its kind has built.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "pacing.hpp"

namespace twilio {

struct Order {
    std::int64_t id = 0;
    TenantId user;
    std::string kind;
    bool repeatable = false;
    int attempts = 0; // this one included
    std::optional<std::chrono::sys_time<std::chrono::microseconds>> expiresAt;
    std::string username, credentialKind, keyId, sealed;
    std::string method, host, path, content, contentType;
    std::string answerMembers; // what its kind wants of Twilio's answer, blanks between; empty: all of it
};

} // namespace twilio

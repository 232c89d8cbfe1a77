// An order as the worker holds it: claimed in sql/orders.sql, with the request that its kind has built.
#pragma once

#include <cstdint>
#include <string>

#include "pacing.hpp"

namespace twilio {

struct Order {
    std::int64_t id = 0;
    TenantId user;
    std::string kind;
    bool repeatable = false;
    int attempts = 0;     // this one included
    bool expires = false; // has a time after which it is not to be sent
    std::string username, credentialKind, keyId, sealed;
    std::string method, host, path, form;
};

} // namespace twilio

// The worker's SQL on orders: who waits, claim, record, recover. All of it calls
// functions of sql/orders.sql inside a Transaction of the caller, and speaks in
// whole batches.
#pragma once

#include "guard.hpp"
#include "order.hpp"
#include "turns.hpp"

namespace twilio::outbox {

struct Result {
    std::int64_t orderId = 0;
    TenantId user;
    const char* outcome = ""; // sent, retry, rejected, unknown, expired, poisoned, account
    int status = 0;
    int errorCode = 0;
    std::string errorMessage, sid, body;
    TimestampTz retryAt = 0; // 0: none
    TimestampTz at = 0;
    TimestampTz twilioAt = 0; // the same by Twilio's clock; 0: unknown

    bool is(std::string_view name) const { return outcome == name; }
};

std::vector<Waiting> waitingTenants(TimePoint now);
std::vector<Order> claim(const std::vector<Share>& shares);
void record(const std::vector<Result>& results);
void recover();
void finishExpired();
void release(const std::vector<std::int64_t>& orderIds);

} // namespace twilio::outbox

// The audit trail of requests: rows are collected and written in batches, in a
// transaction of the worker's own, so they outlive the caller's rollback.
#pragma once

#include "guard.hpp"
#include "reply.hpp"

namespace twilio {

struct AuditRow {
    TimestampTz at = 0;
    pg_uuid_t user{};
    std::string actor, action, object, outcome, requestId;
    int status = 0;
    int errorCode = 0;
    int durationMs = 0;
};

class AuditTrail {
public:
    void add(AuditRow row);
    bool empty() const { return rows_.empty(); }

    // Writes what has been collected. False when the table cannot be written now
    // (it is locked, the disk is full): the rows wait. Beyond a bound they are all
    // given up, with one line in the server log.
    bool write();

    // Writes these rows, in a transaction of the caller's.
    static void writeWithin(const std::vector<AuditRow>& rows);

private:
    std::vector<AuditRow> rows_;
};

// The line of twilio.log_requests: method, path without what could be a phone
// number, status, duration, Twilio's request id.
void logRequest(std::string_view method, std::string_view path, const Reply& reply);

} // namespace twilio

// What a reply from Twilio means for the order it answers: the result that SQL
// records, and the row of the audit log.
#pragma once

#include "audit.hpp"
#include "outbox.hpp"
#include "reply.hpp"

namespace twilio {

// Drops a body that the database cannot hold; then the outcome is that of an answer without one.
outbox::Result toResult(const Order& order, Outcome outcome, Reply& reply);

AuditRow toAuditRow(const Order& order, const Reply& reply, const outbox::Result& result);

} // namespace twilio

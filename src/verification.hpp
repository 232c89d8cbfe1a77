// Writing into twilio_settings what Twilio thinks of the credentials: the permit
// that opens the read-only columns for one UPDATE, and how such a transaction
// commits. See twilio_private.record_verification (sql/verify.sql).
#pragma once

#include "guard.hpp"

namespace twilio::verification {

void permit(const pg_uuid_t& user);
bool takePermit(const pg_uuid_t& user, bool confirms);
void end();

} // namespace twilio::verification

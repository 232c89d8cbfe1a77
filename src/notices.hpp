// Notifications for the channel `twilio`, given to PostgreSQL when the transaction
// commits: one that is prepared may not have notified anybody, and then notifies nobody.
#pragma once

#include "guard.hpp"

namespace twilio::notices {

void notifyAtCommit(std::string notice);

} // namespace twilio::notices

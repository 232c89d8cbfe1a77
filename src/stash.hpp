// Secrets on their way from a BEFORE trigger to the AFTER trigger of the same
// statement: already sealed, kept outside the row, so that no row, WAL record or
// statement ever carries them. See sql/settings_write.sql for the order of events.
#pragma once

#include "secrets.hpp"

namespace twilio::stash {

void clear(); // at the start of each statement
void put(const secrets::Owner& owner, std::string_view secret, bool replace);
std::optional<secrets::Sealed> take(const secrets::Owner& owner);

} // namespace twilio::stash

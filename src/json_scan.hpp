// Reads the little that the engine itself must know of a JSON answer, without
// building a tree: a member of the outermost object, and where secrets stand. The database parses the rest.
//
// Everything here takes any bytes, never throws on them and never recurses.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace twilio {

// The value of a member of the outermost object, if it is a string. Escapes are
// decoded; what Postgres cannot store (NUL, lone surrogates, invalid UTF-8)
// becomes U+FFFD. The first member of that name counts.
std::optional<std::string> topLevelString(std::string_view json, std::string_view member);

// The same for a number without fraction or exponent that fits.
std::optional<long> topLevelInteger(std::string_view json, std::string_view member);

// The outermost object with only those of its members that are named, blanks between the names, and are not null. What
// is no object comes back as it is.
std::string onlyMembers(std::string_view json, std::string_view names);

// Overwrites with '*', length kept, every string value of a member that is named
// auth_token, secondary_auth_token, secret, port_out_pin, pin or account_number, at
// any depth, however the name is escaped, and also where the text is cut off in the
// middle. True when there was one.
bool blankSecrets(std::string& json) noexcept;

} // namespace twilio

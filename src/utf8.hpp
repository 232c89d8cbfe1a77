// What the database takes for text, made of any bytes.
#pragma once

#include <string>
#include <string_view>

namespace twilio {

// The text with U+FFFD in place of each byte that is no part of a UTF-8 character, and of NUL.
std::string storable(std::string_view text);

} // namespace twilio

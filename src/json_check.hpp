// Whether an answer arrived whole.
#pragma once

#include <string_view>

namespace twilio {

// One whole JSON value and nothing after it: brackets match, strings end, commas and colons stand where they
// must. An answer cut off on its way fails. Never throws, never recurses.
bool looksComplete(std::string_view json) noexcept;

} // namespace twilio

// application/x-www-form-urlencoded, both ways.
//
// Decoding keeps everything that a signature is made of: the order, repeated
// names, empty values and every byte, valid UTF-8 or not. It never fails: an
// escape that is none stays as it stands.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace twilio {

using Parameters = std::vector<std::pair<std::string, std::string>>;

Parameters decodeForm(std::string_view form);

// Escapes as RFC 3986 demands, all but letters, digits and -._~: a space is %20 and a plus sign is %2B.
std::string encodeForm(const Parameters& parameters);

// The first value of that name.
const std::string* findParameter(const Parameters& parameters, std::string_view name);

} // namespace twilio

// Where a request may go: hosts of Twilio, over https, and nowhere else,
// whatever SQL asks for. The Authorization header goes to the same place.
#pragma once

#include <string>
#include <string_view>

namespace twilio {

// https://<host with edge and region><path>. Throws Failure: F0000 when only one
// of twilio.edge and twilio.region is set; 22023 when the host is not below
// twilio.com, or the path does not begin with a slash or holds what a URL must not.
std::string destination(std::string_view host, std::string_view path);

} // namespace twilio

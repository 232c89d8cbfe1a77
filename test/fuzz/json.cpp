// The readers take any bytes; blanking keeps the length, leaves a whole value whole and is done after one pass; some
// members of a whole value are a whole value.
#include <cstdint>
#include <cstdlib>

#include "json_check.hpp"
#include "json_scan.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    std::string json(reinterpret_cast<const char*>(data), size);
    twilio::topLevelString(json, "sid");
    twilio::topLevelInteger(json, "code");
    const bool wasComplete = twilio::looksComplete(json);
    const std::string some = twilio::onlyMembers(json, "sid status code");
    if (wasComplete && (!twilio::looksComplete(some) || twilio::onlyMembers(some, "sid status code") != some))
        std::abort();
    twilio::blankSecrets(json);
    const std::string once = json;
    twilio::blankSecrets(json);
    if (json.size() != size || json != once || (wasComplete && !twilio::looksComplete(json)))
        std::abort();
    return 0;
}

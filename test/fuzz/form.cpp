// Decoding any bytes, and encoding what came out, gives the same parameters again.
#include <cstdint>
#include <cstdlib>

#include "form.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    const std::string_view form(reinterpret_cast<const char*>(data), size);
    twilio::Parameters parameters = twilio::decodeForm(form);
    if (twilio::decodeForm(twilio::encodeForm(parameters)) != parameters)
        std::abort();
    return 0;
}

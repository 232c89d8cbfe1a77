// A signature fits what was signed, in any order of the parameters, and with the port or without it.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "signature.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    using namespace twilio;
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    const std::size_t end = std::min(input.find('\n'), size);
    const std::string_view url = input.substr(0, end);
    const std::string_view body = input.substr(std::min(end + 1, size));
    Parameters parameters = decodeForm(body);
    static const SigningKey token("token");
    static const SigningKey other("other");
    const std::string signature = sign(token, url, parameters);
    std::reverse(parameters.begin(), parameters.end());
    if (sign(token, url, parameters) != signature || validSignature(other, url, parameters, signature))
        std::abort();
    const std::string https = "https://example.com/" + std::string(url);
    const std::string withPort = "https://example.com:443/" + std::string(url);
    if (!validSignature(token, https, parameters, sign(token, withPort, parameters)) ||
        !validSignature(token, withPort, parameters, sign(token, https, parameters)))
        std::abort();
    validWebhook(token, {url, body, parameters}, signature);
    return 0;
}

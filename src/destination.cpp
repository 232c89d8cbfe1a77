// Checks on host and path, which SQL has put together.
#include "destination.hpp"

#include "guard.hpp"
#include "settings.hpp"

namespace twilio {

namespace {

bool isTwilioHost(std::string_view host)
{
    constexpr std::string_view suffix = ".twilio.com";
    bool const plain = std::all_of(host.begin(), host.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
    });
    return plain && host.size() > suffix.size() && host.substr(host.size() - suffix.size()) == suffix;
}

bool isPlainPath(std::string_view path)
{
    return !path.empty() && path.front() == '/' &&
           std::all_of(path.begin(), path.end(), [](char c) { return c > 0x20 && c < 0x7f && c != '#' && c != '\\'; });
}

} // namespace

std::string destination(std::string_view host, std::string_view path)
{
    std::string const regional = settings::regionalHost(host);
    if (regional.empty())
        throw pg::Failure("F0000", "pg_twilio is not configured correctly",
                          "Set both twilio.edge and twilio.region, or neither.");
    if (!isTwilioHost(regional) || !isPlainPath(path))
        throw pg::Failure("22023", "the request does not go to Twilio", "Its host or path is not one of Twilio's.");
    return std::string("https://").append(regional).append(path);
}

} // namespace twilio

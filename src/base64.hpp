// Base64 (RFC 4648, padded) into buffers of the caller's choosing, because what
// passes through here is mostly secret and must not stay in a temporary string.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "secret.hpp"

namespace twilio {

constexpr std::size_t base64Size(std::size_t bytes)
{
    return (bytes + 2) / 3 * 4;
}

// Writes base64Size(bytes.size()) characters and no terminator.
void encodeBase64(std::string_view bytes, char* into) noexcept;

std::string encodeBase64(std::string_view bytes);

// Strict: the padding must be there, and nothing but the alphabet before it.
std::optional<Secret> decodeBase64(std::string_view text);

} // namespace twilio

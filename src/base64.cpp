// Base64 by table; the decoder refuses whatever the encoder would not have written.
#include "base64.hpp"

#include <array>
#include <cstdint>

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::array<std::int8_t, 256> valuesByLetter()
{
    std::array<std::int8_t, 256> values{};
    values.fill(-1);
    for (std::size_t i = 0; i < alphabet.size(); i++)
        values[static_cast<unsigned char>(alphabet[i])] = static_cast<std::int8_t>(i);
    return values;
}

constexpr auto letterValues = valuesByLetter();

} // namespace

void encodeBase64(std::string_view bytes, char* into) noexcept
{
    std::size_t i = 0;
    const auto at = [&](std::size_t n) -> std::uint32_t {
        return n < bytes.size() ? static_cast<unsigned char>(bytes[n]) : 0u;
    };
    for (; i < bytes.size(); i += 3) {
        const std::uint32_t group = at(i) << 16 | at(i + 1) << 8 | at(i + 2);
        *into++ = alphabet[group >> 18];
        *into++ = alphabet[group >> 12 & 63];
        *into++ = i + 1 < bytes.size() ? alphabet[group >> 6 & 63] : '=';
        *into++ = i + 2 < bytes.size() ? alphabet[group & 63] : '=';
    }
}

std::string encodeBase64(std::string_view bytes)
{
    std::string text(base64Size(bytes.size()), '\0');
    encodeBase64(bytes, text.data());
    return text;
}

std::optional<Secret> decodeBase64(std::string_view text)
{
    if (text.size() % 4 != 0)
        return std::nullopt;
    std::size_t padding = 0;
    while (padding < 2 && text.ends_with('=')) {
        text.remove_suffix(1);
        padding++;
    }
    Secret bytes(text.size() * 3 / 4);
    std::uint32_t bits = 0;
    int held = 0;
    std::size_t written = 0;
    for (const char letter : text) {
        const int value = letterValues[static_cast<unsigned char>(letter)];
        if (value < 0)
            return std::nullopt;
        bits = bits << 6 | static_cast<std::uint32_t>(value);
        held += 6;
        if (held >= 8) {
            held -= 8;
            bytes.data()[written++] = static_cast<char>(bits >> held & 255);
        }
    }
    if ((bits & ((1u << held) - 1)) != 0)
        return std::nullopt;
    return bytes;
}

} // namespace twilio

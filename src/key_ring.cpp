// The text of a key ring, without the file around it.
#include "key_ring.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>

#include <sys/random.h>

#include "base64.hpp"

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

constexpr std::size_t longestId = 64;
constexpr std::size_t newIdBytes = 6;

bool isSpace(char letter)
{
    return letter == ' ' || letter == '\t' || letter == '\r';
}

std::string_view trimmed(std::string_view text)
{
    while (!text.empty() && isSpace(text.front()))
        text.remove_prefix(1);
    while (!text.empty() && isSpace(text.back()))
        text.remove_suffix(1);
    return text;
}

bool isId(std::string_view id)
{
    const auto isAllowed = [](char letter) {
        return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
               (letter >= '0' && letter <= '9') || letter == '-' || letter == '_' || letter == '.';
    };
    return !id.empty() && id.size() <= longestId && std::all_of(id.begin(), id.end(), isAllowed);
}

std::optional<Key> parseLine(std::string_view line)
{
    const std::size_t space = std::min(line.find_first_of(" \t"), line.size());
    auto value = decodeBase64(trimmed(line.substr(space)));
    if (!isId(line.substr(0, space)) || !value || value->size() != KeyRing::keySize)
        return std::nullopt;
    return Key{std::string(line.substr(0, space)), std::move(*value)};
}

[[noreturn]] void malformed(int line, const std::string& what)
{
    throw KeyFileError(KeyFileError::Kind::malformed, what, line);
}

void fillRandomly(char* bytes, std::size_t size)
{
    while (size > 0) {
        const ssize_t got = ::getrandom(bytes, size, 0);
        if (got < 0 && errno != EINTR)
            throw std::system_error(errno, std::generic_category(), "getrandom");
        if (got > 0) {
            bytes += got;
            size -= static_cast<std::size_t>(got);
        }
    }
}

} // namespace

const Key* KeyRing::find(std::string_view id) const
{
    const auto found = std::find_if(keys_.begin(), keys_.end(), [&](const Key& key) { return key.id == id; });
    return found == keys_.end() ? nullptr : &*found;
}

bool KeyRing::append(Key key)
{
    if (find(key.id) != nullptr)
        return false;
    keys_.push_back(std::move(key));
    return true;
}

KeyRing parseKeyRing(std::string_view text)
{
    KeyRing ring;
    for (int number = 1; !text.empty(); number++) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        const std::string_view line = trimmed(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
        if (line.empty() || line.front() == '#')
            continue;
        auto key = parseLine(line);
        if (!key)
            malformed(number, "line " + std::to_string(number) + " is not a key id and 32 bytes in base64");
        if (!ring.append(std::move(*key)))
            malformed(number, "line " + std::to_string(number) + " repeats the key id of an earlier line");
    }
    if (ring.empty())
        malformed(0, "it holds no key");
    return ring;
}

Secret formatKey(const Key& key)
{
    Secret line(key.id.size() + 1 + base64Size(key.value.size()) + 1);
    char* at = std::copy(key.id.begin(), key.id.end(), line.data());
    *at++ = ' ';
    encodeBase64(key.value.view(), at);
    line.data()[line.size() - 1] = '\n';
    return line;
}

Key newKey()
{
    std::array<char, newIdBytes> random{};
    fillRandomly(random.data(), random.size());
    Key key{"k", Secret(KeyRing::keySize)};
    for (const char byte : random) {
        key.id += "0123456789abcdef"[static_cast<unsigned char>(byte) >> 4];
        key.id += "0123456789abcdef"[byte & 15];
    }
    fillRandomly(key.value.data(), key.value.size());
    return key;
}

} // namespace twilio

// Small readers that know strings and white space, and little else.
//
// Nesting is counted, never recursed into. A key is recognised by the colon
// behind it, so that the reader which blanks secrets works on any piece of JSON,
// whole or not.
#include "json_scan.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>

#include "utf8.hpp"

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

constexpr std::size_t longestName = 64;
constexpr std::uint32_t replacement = 0xFFFD;

bool isSpace(char letter)
{
    return letter == ' ' || letter == '\t' || letter == '\n' || letter == '\r';
}

std::size_t skipSpace(std::string_view json, std::size_t at)
{
    while (at < json.size() && isSpace(json[at]))
        at++;
    return at;
}

// The place of the quote that ends the string whose first character is at `at`; the end of the text if none does.
std::size_t endOfString(std::string_view json, std::size_t at)
{
    for (; at < json.size() && json[at] != '"'; at++)
        if (json[at] == '\\')
            at++;
    return std::min(at, json.size());
}

std::optional<std::uint32_t> hexAt(std::string_view text, std::size_t at)
{
    std::uint32_t unit = 0;
    if (at + 4 > text.size())
        return std::nullopt;
    const auto [end, error] = std::from_chars(text.data() + at, text.data() + at + 4, unit, 16);
    if (error != std::errc() || end != text.data() + at + 4)
        return std::nullopt;
    return unit;
}

bool isHighSurrogate(std::uint32_t unit)
{
    return unit >= 0xD800 && unit < 0xDC00;
}
bool isLowSurrogate(std::uint32_t unit)
{
    return unit >= 0xDC00 && unit < 0xE000;
}

// Decodes the inside of a JSON string character by character. `put` takes bytes that are copied as they stand;
// `putPoint` takes code points that were escaped.
template<typename Put, typename PutPoint>
void unescape(std::string_view inside, Put put, PutPoint putPoint)
{
    for (std::size_t at = 0; at < inside.size(); at++) {
        if (inside[at] != '\\' || at + 1 == inside.size()) {
            put(inside[at]);
            continue;
        }
        switch (inside[++at]) {
        case 'b':
            put('\b');
            break;
        case 'f':
            put('\f');
            break;
        case 'n':
            put('\n');
            break;
        case 'r':
            put('\r');
            break;
        case 't':
            put('\t');
            break;
        case 'u': {
            auto unit = hexAt(inside, at + 1);
            if (!unit) {
                putPoint(replacement);
                break;
            }
            at += 4;
            if (isHighSurrogate(*unit) && inside.substr(at + 1, 2) == "\\u") {
                const auto low = hexAt(inside, at + 3);
                if (low && isLowSurrogate(*low)) {
                    unit = 0x10000 + ((*unit - 0xD800) << 10) + (*low - 0xDC00);
                    at += 6;
                }
            }
            putPoint(*unit);
            break;
        }
        default:
            put(inside[at]);
        }
    }
}

void appendPoint(std::string& text, std::uint32_t point)
{
    if (point == 0 || isHighSurrogate(point) || isLowSurrogate(point))
        point = replacement;
    const auto low = [&](int shift) { return static_cast<char>(0x80 | (point >> shift & 0x3F)); };
    if (point < 0x80)
        text += static_cast<char>(point);
    else if (point < 0x800)
        text += {static_cast<char>(0xC0 | point >> 6), low(0)};
    else if (point < 0x10000)
        text += {static_cast<char>(0xE0 | point >> 12), low(6), low(0)};
    else
        text += {static_cast<char>(0xF0 | point >> 18), low(12), low(6), low(0)};
}

std::string decodeString(std::string_view inside)
{
    std::string text;
    text.reserve(inside.size());
    unescape(
        inside, [&](char byte) { text += byte; }, [&](std::uint32_t point) { appendPoint(text, point); });
    return storable(text);
}

// A name as it is meant, without allocating: mostly as it stands, else decoded. Longer ones are none that matter here.
class Name {
public:
    explicit Name(std::string_view inside) : name_(inside)
    {
        if (inside.find('\\') == inside.npos)
            return;
        std::size_t length = 0;
        const auto put = [&](char byte) {
            if (length < letters_.size())
                letters_[length] = byte;
            length++;
        };
        unescape(inside, put, [&](std::uint32_t point) { put(point < 0x80 ? static_cast<char>(point) : '\x7F'); });
        name_ = length <= letters_.size() ? std::string_view(letters_.data(), length) : inside;
    }
    Name(const Name&) = delete;
    Name& operator=(const Name&) = delete;

    bool is(std::string_view name) const { return name_ == name; }
    // Among names with blanks between them.
    bool isOneOf(std::string_view names) const
    {
        for (std::size_t end = 0; !names.empty(); names.remove_prefix(std::min(end + 1, names.size()))) {
            end = std::min(names.find(' '), names.size());
            if (is(names.substr(0, end)))
                return true;
        }
        return false;
    }

private:
    std::string_view name_;
    std::array<char, longestName> letters_{};
};

bool isSecretName(std::string_view inside)
{
    return Name(inside).isOneOf("auth_token secondary_auth_token secret port_out_pin pin account_number");
}

// The place of the comma or bracket behind the value that begins there.
std::size_t endOfValue(std::string_view json, std::size_t at)
{
    for (std::size_t depth = 0; at < json.size(); at++) {
        if (json[at] == '"')
            at = endOfString(json, at + 1);
        else if (json[at] == '{' || json[at] == '[')
            depth++;
        else if (depth == 0 && (json[at] == ',' || json[at] == '}' || json[at] == ']'))
            return at;
        else if (json[at] == '}' || json[at] == ']')
            depth--;
    }
    return json.size();
}

// Where the value of that member of the outermost object begins.
std::optional<std::size_t> findTopLevel(std::string_view json, std::string_view member)
{
    std::size_t at = skipSpace(json, 0);
    if (at >= json.size() || json[at] != '{')
        return std::nullopt;
    std::size_t depth = 0;
    for (; at < json.size(); at++) {
        if (json[at] == '{' || json[at] == '[') {
            depth++;
        } else if (json[at] == '}' || json[at] == ']') {
            if (--depth == 0)
                return std::nullopt;
        } else if (json[at] == '"') {
            const std::size_t begin = at + 1;
            at = endOfString(json, begin);
            const std::size_t colon = skipSpace(json, at + 1);
            if (depth == 1 && colon < json.size() && json[colon] == ':' &&
                Name(json.substr(begin, at - begin)).is(member))
                return skipSpace(json, colon + 1);
        }
    }
    return std::nullopt;
}

} // namespace

std::optional<std::string> topLevelString(std::string_view json, std::string_view member)
{
    const auto begin = findTopLevel(json, member);
    if (!begin || *begin >= json.size() || json[*begin] != '"')
        return std::nullopt;
    const std::size_t end = endOfString(json, *begin + 1);
    if (end == json.size())
        return std::nullopt;
    return decodeString(json.substr(*begin + 1, end - *begin - 1));
}

std::optional<long> topLevelInteger(std::string_view json, std::string_view member)
{
    const auto begin = findTopLevel(json, member);
    if (!begin || *begin >= json.size())
        return std::nullopt;
    long number = 0;
    const char* const last = json.data() + json.size();
    const auto [end, error] = std::from_chars(json.data() + *begin, last, number);
    if (error != std::errc() || end == last || (*end != ',' && *end != '}' && !isSpace(*end)))
        return std::nullopt;
    return number;
}

std::string onlyMembers(std::string_view json, std::string_view names)
{
    std::size_t at = skipSpace(json, 0);
    if (at >= json.size() || json[at] != '{')
        return std::string(json);
    std::string kept = "{";
    for (at++; at < json.size() && json[at] != '}'; at++) {
        if (json[at] != '"')
            continue;
        const std::size_t begin = at;
        const std::size_t end = endOfString(json, begin + 1);
        const std::size_t value = std::min(skipSpace(json, skipSpace(json, end + 1) + 1), json.size());
        at = endOfValue(json, value);
        if (json.substr(value, 4) == "null" || !Name(json.substr(begin + 1, end - begin - 1)).isOneOf(names))
            continue;
        if (kept.size() > 1)
            kept += ',';
        kept += json.substr(begin, at - begin);
    }
    return kept += '}';
}

bool blankSecrets(std::string& json) noexcept
{
    bool blanked = false;
    for (std::size_t at = 0; at < json.size(); at++) {
        if (json[at] != '"')
            continue;
        const std::size_t begin = at + 1;
        at = endOfString(json, begin);
        const std::size_t colon = skipSpace(json, at + 1);
        if (colon >= json.size() || json[colon] != ':' ||
            !isSecretName(std::string_view(json).substr(begin, at - begin)))
            continue;
        const std::size_t value = skipSpace(json, colon + 1);
        if (value >= json.size() || json[value] != '"')
            continue;
        at = endOfString(json, value + 1);
        std::fill(json.begin() + static_cast<std::ptrdiff_t>(value + 1), json.begin() + static_cast<std::ptrdiff_t>(at),
                  '*');
        blanked = true;
    }
    return blanked;
}

} // namespace twilio

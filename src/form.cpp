// One pass over the text in either direction.
#include "form.hpp"

#include <algorithm>

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

int hexValue(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    return -1;
}

std::string decode(std::string_view text)
{
    std::string plain;
    plain.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); i++) {
        if (text[i] == '+') {
            plain += ' ';
        } else if (text[i] == '%' && i + 2 < text.size() && hexValue(text[i + 1]) >= 0 && hexValue(text[i + 2]) >= 0) {
            plain += static_cast<char>(hexValue(text[i + 1]) * 16 + hexValue(text[i + 2]));
            i += 2;
        } else {
            plain += text[i];
        }
    }
    return plain;
}

// Not isalnum: that one asks the locale.
bool isUnreserved(char letter)
{
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || (letter >= '0' && letter <= '9') ||
           letter == '-' || letter == '.' || letter == '_' || letter == '~';
}

void appendEscaped(std::string& to, std::string_view text)
{
    static constexpr char digits[] = "0123456789ABCDEF";
    for (const char letter : text) {
        if (isUnreserved(letter)) {
            to += letter;
        } else {
            const auto byte = static_cast<unsigned char>(letter);
            const char escape[] = {'%', digits[byte >> 4], digits[byte & 15]};
            to.append(escape, sizeof escape);
        }
    }
}

} // namespace

Parameters decodeForm(std::string_view form)
{
    Parameters parameters;
    while (!form.empty()) {
        const std::string_view pair = form.substr(0, form.find('&'));
        form.remove_prefix(std::min(form.size(), pair.size() + 1));
        if (pair.empty())
            continue;
        const std::size_t equals = pair.find('=');
        const std::string_view value = equals == pair.npos ? std::string_view() : pair.substr(equals + 1);
        parameters.emplace_back(decode(pair.substr(0, equals)), decode(value));
    }
    return parameters;
}

std::string encodeForm(const Parameters& parameters)
{
    std::string form;
    for (const auto& [name, value] : parameters) {
        if (!form.empty())
            form += '&';
        appendEscaped(form, name);
        form += '=';
        appendEscaped(form, value);
    }
    return form;
}

const std::string* findParameter(const Parameters& parameters, std::string_view name)
{
    const auto found =
        std::find_if(parameters.begin(), parameters.end(), [&](const auto& pair) { return pair.first == name; });
    return found == parameters.end() ? nullptr : &found->second;
}

} // namespace twilio

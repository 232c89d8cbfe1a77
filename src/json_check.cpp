// The grammar of RFC 8259 as a loop: what is open stands in a bit set, so the
// depth of an answer costs no stack. Deeper than 512 counts as broken.
#include "json_check.hpp"

#include <algorithm>
#include <bitset>

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

constexpr std::size_t deepest = 512;

bool isDigit(char letter)
{
    return letter >= '0' && letter <= '9';
}

class Checker {
public:
    explicit Checker(std::string_view json) : json_(json) {}

    bool check()
    {
        if (!value())
            return false;
        while (depth_ > 0) {
            const char letter = peek();
            const bool inObject = isObject_[depth_ - 1];
            if (letter == (inObject ? '}' : ']')) {
                at_++;
                depth_--;
            } else if (letter != ',') {
                return false;
            } else {
                at_++;
                if (!(inObject ? member() : value()))
                    return false;
            }
        }
        skipSpace();
        return at_ == json_.size();
    }

private:
    void skipSpace()
    {
        while (at_ < json_.size() && std::string_view(" \t\n\r").find(json_[at_]) != std::string_view::npos)
            at_++;
    }

    char peek()
    {
        skipSpace();
        return at_ < json_.size() ? json_[at_] : '\0';
    }

    // A scalar, or the opening of an object or array up to and including its first value.
    bool value()
    {
        for (;;) {
            const char letter = peek();
            if (letter == '"')
                return string();
            if (letter != '{' && letter != '[')
                return letter == '-' || isDigit(letter) ? number() : word();
            at_++;
            if (depth_ == deepest)
                return false;
            isObject_[depth_++] = letter == '{';
            if (peek() == (letter == '{' ? '}' : ']'))
                return true; // closed by check()
            if (letter == '{' && !name())
                return false;
        }
    }

    bool member() { return name() && value(); }

    bool name()
    {
        if (peek() != '"' || !string() || peek() != ':')
            return false;
        at_++;
        return true;
    }

    bool string()
    {
        for (at_++; at_ < json_.size(); at_++) {
            const auto letter = static_cast<unsigned char>(json_[at_]);
            if (letter == '"') {
                at_++;
                return true;
            }
            if (letter < 0x20)
                return false;
            if (letter == '\\') {
                at_++;
                if (at_ >= json_.size() || std::string_view("\"\\/bfnrtu").find(json_[at_]) == std::string_view::npos)
                    return false;
                if (json_[at_] == 'u' && !fourHexDigits())
                    return false;
            }
        }
        return false;
    }

    bool fourHexDigits()
    {
        const auto isHex = [](char letter) {
            return isDigit(letter) || ((letter | 32) >= 'a' && (letter | 32) <= 'f');
        };
        const std::string_view digits = json_.substr(std::min(at_ + 1, json_.size()), 4);
        return digits.size() == 4 && std::all_of(digits.begin(), digits.end(), isHex);
    }

    bool digits()
    {
        const std::size_t begin = at_;
        while (at_ < json_.size() && isDigit(json_[at_]))
            at_++;
        return at_ > begin;
    }

    bool accept(std::string_view letters)
    {
        if (at_ >= json_.size() || letters.find(json_[at_]) == letters.npos)
            return false;
        at_++;
        return true;
    }

    bool number()
    {
        accept("-");
        if (!accept("0") && !digits())
            return false;
        if (accept(".") && !digits())
            return false;
        if (!accept("eE"))
            return true;
        accept("+-");
        return digits();
    }

    bool word()
    {
        for (const std::string_view known : {"true", "false", "null"})
            if (json_.substr(at_, known.size()) == known) {
                at_ += known.size();
                return true;
            }
        return false;
    }

    std::string_view json_;
    std::size_t at_ = 0;
    std::size_t depth_ = 0;
    std::bitset<deepest> isObject_;
};

} // namespace

bool looksComplete(std::string_view json) noexcept
{
    return Checker(json).check();
}

} // namespace twilio

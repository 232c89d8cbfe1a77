// Decodes UTF-8 once and fills parts for both alphabets at the same time.
#include "segments.hpp"

#include <cstddef>
#include <cstdint>

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

// Septets of a character in GSM 03.38: 1, 2 for the extension table, 0 for none.
int septets(std::uint32_t c) noexcept
{
    switch (c) {
    case '\f':
    case '^':
    case '{':
    case '}':
    case '\\':
    case '[':
    case '~':
    case ']':
    case '|':
    case 0x20AC:
        return 2;
    case '`':
    case '\t':
        return 0;
    case '\n':
    case '\r':
    case 0xA1:
    case 0xA3:
    case 0xA4:
    case 0xA5:
    case 0xA7:
    case 0xBF:
    case 0xC4:
    case 0xC5:
    case 0xC6:
    case 0xC7:
    case 0xC9:
    case 0xD1:
    case 0xD6:
    case 0xD8:
    case 0xDC:
    case 0xDF:
    case 0xE0:
    case 0xE4:
    case 0xE5:
    case 0xE6:
    case 0xE8:
    case 0xE9:
    case 0xEC:
    case 0xF1:
    case 0xF2:
    case 0xF6:
    case 0xF8:
    case 0xF9:
    case 0xFC:
    case 0x393:
    case 0x394:
    case 0x398:
    case 0x39B:
    case 0x39E:
    case 0x3A0:
    case 0x3A3:
    case 0x3A6:
    case 0x3A8:
    case 0x3A9:
        return 1;
    default:
        return c >= 0x20 && c < 0x7f ? 1 : 0;
    }
}

// Fills parts of a given size with characters that must not be split.
class Parts {
public:
    Parts(int alone, int part) : alone_(alone), part_(part) {}

    void add(int units) noexcept
    {
        total_ += units;
        if (used_ + units > part_) {
            full_++;
            used_ = 0;
        }
        used_ += units;
    }
    int total() const noexcept { return total_; }
    int count() const noexcept { return total_ == 0 ? 0 : total_ <= alone_ ? 1 : full_ + 1; }

private:
    int alone_;
    int part_;
    int total_ = 0;
    int used_ = 0;
    int full_ = 0;
};

std::uint32_t nextCharacter(std::string_view text, std::size_t& at) noexcept
{
    auto const byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    unsigned char const first = byte(at++);
    if (first < 0x80)
        return first;
    int const more = first >= 0xF0 && first < 0xF8   ? 3
                     : first >= 0xE0 && first < 0xF0 ? 2
                     : first >= 0xC2 && first < 0xE0 ? 1
                                                     : 0;
    if (more == 0 || at + static_cast<std::size_t>(more) > text.size())
        return 0xFFFD;
    std::uint32_t c = first & (0x3Fu >> more);
    for (int i = 0; i < more; i++) {
        if ((byte(at + static_cast<std::size_t>(i)) & 0xC0) != 0x80)
            return 0xFFFD;
        c = c << 6 | (byte(at + static_cast<std::size_t>(i)) & 0x3Fu);
    }
    at += static_cast<std::size_t>(more);
    return c;
}

} // namespace

Segments countSegments(std::string_view text) noexcept
{
    Parts gsm(160, 153);
    Parts ucs(70, 67);
    bool allGsm = true;
    for (std::size_t at = 0; at < text.size();) {
        std::uint32_t const c = nextCharacter(text, at);
        ucs.add(c >= 0x10000 ? 2 : 1);
        int const cost = septets(c);
        allGsm = allGsm && cost > 0;
        gsm.add(cost);
    }
    const Parts& chosen = allGsm ? gsm : ucs;
    return {allGsm, chosen.total(), chosen.count(), ucs.total()};
}

} // namespace twilio

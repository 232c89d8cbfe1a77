// How many segments an SMS has: GSM-7 where every character is in GSM 03.38, else
// UCS-2 (Twilio, "SMS character limit" and GSM 03.38 with its extension table).
//
//            alone   per part   unit
//   GSM-7    160     153        septet; an extension character takes two, never split
//   UCS-2    70      67         UTF-16 unit; an astral character takes two, never split
#pragma once

#include <string_view>

namespace twilio {

struct Segments {
    bool gsm7 = true;
    int units = 0;    // septets or UTF-16 units
    int segments = 0; // 0 for an empty text
    int utf16 = 0;    // UTF-16 units, what Twilio's limit of 1600 is about
};

// The text is UTF-8; a byte that is none counts as U+FFFD.
Segments countSegments(std::string_view text) noexcept;

} // namespace twilio

#include "segments.hpp"

#include <string>

#include <gtest/gtest.h>

using namespace twilio;

namespace {

std::string repeated(const std::string& text, int times)
{
    std::string result;
    for (int i = 0; i < times; i++)
        result += text;
    return result;
}

void expectSegments(const std::string& text, bool gsm7, int units, int segments)
{
    Segments const counted = countSegments(text);
    EXPECT_EQ(counted.gsm7, gsm7) << text;
    EXPECT_EQ(counted.units, units) << text;
    EXPECT_EQ(counted.segments, segments) << text;
}

} // namespace

TEST(Segments, ofAnEmptyTextAreNone)
{
    expectSegments("", true, 0, 0);
}

TEST(Segments, ofGsm7Hold160AloneAnd153Together)
{
    expectSegments(repeated("a", 160), true, 160, 1);
    expectSegments(repeated("a", 161), true, 161, 2);
    expectSegments(repeated("a", 306), true, 306, 2);
    expectSegments(repeated("a", 307), true, 307, 3);
}

TEST(Segments, countExtensionCharactersTwice)
{
    expectSegments(repeated("€", 80), true, 160, 1);
    expectSegments(repeated("{", 81), true, 162, 2);
}

TEST(Segments, neverSplitAnExtensionCharacter)
{
    // 152 septets, then one of two: it does not fit the 153 of the first part.
    expectSegments(repeated("a", 152) + "€" + repeated("a", 152), true, 306, 3);
}

TEST(Segments, ofUcs2Hold70AloneAnd67Together)
{
    expectSegments(repeated("д", 70), false, 70, 1);
    expectSegments(repeated("д", 71), false, 71, 2);
    expectSegments(repeated("д", 134), false, 134, 2);
    expectSegments(repeated("д", 135), false, 135, 3);
}

TEST(Segments, countEmojiTwiceAndNeverSplitThem)
{
    expectSegments(repeated("👍", 35), false, 70, 1);
    expectSegments(repeated("д", 66) + "👍" + repeated("д", 66), false, 134, 3);
}

TEST(Segments, makeTheWholeTextUcs2ForOneCharacter)
{
    for (const char* text : {"`", "ç", "“quoted”", "–", "\xc2\xa0", "a\tb"})
        EXPECT_FALSE(countSegments(text).gsm7) << text;
    for (const char* text : {"@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ", "¡ÄÖÑÜ§¿äöñüà", "\f^{}\\[~]|€"})
        EXPECT_TRUE(countSegments(text).gsm7) << text;
}

TEST(Segments, tellTheLengthThatTwilioLimits)
{
    EXPECT_EQ(countSegments(repeated("€", 1600)).utf16, 1600);
    EXPECT_EQ(countSegments(repeated("👍", 800)).utf16, 1600);
}

TEST(Segments, takeAnyBytes)
{
    for (const char* text : {"\xff", "\xc3", "\xe2\x82", "\xf0\x9f\x91", "\x80\x80", "a\xc3z"})
        EXPECT_FALSE(countSegments(text).gsm7);
}

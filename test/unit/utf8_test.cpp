#include "utf8.hpp"

#include <gtest/gtest.h>

using twilio::storable;

namespace {

const std::string replacement = "\xEF\xBF\xBD";

} // namespace

TEST(Utf8, keepsWhatIsText)
{
    for (const std::string text :
         {"", "Hello", "\x01\x7F", "\xC3\xA9", "\xEF\xBF\xBF", "\xEE\x80\x80", "\xF0\x9F\x91\x8D", "\xF4\x8F\xBF\xBF"})
        EXPECT_EQ(storable(text), text);
}

TEST(Utf8, replacesEachByteThatIsNone)
{
    EXPECT_EQ(storable(std::string("a\0b", 3)), "a" + replacement + "b");
    EXPECT_EQ(storable("a\xFFz"), "a" + replacement + "z");
    EXPECT_EQ(storable("\xC3"), replacement); // cut off
    EXPECT_EQ(storable("\xF0\x9F\x91z"), replacement + replacement + replacement + "z");
    EXPECT_EQ(storable("\xC0\x80"), replacement + replacement);                   // overlong
    EXPECT_EQ(storable("\xED\xA0\x80"), replacement + replacement + replacement); // a surrogate
    EXPECT_EQ(storable("\xF4\x90\x80\x80"), replacement + replacement + replacement + replacement);
    EXPECT_EQ(storable("\x80\xC3\xA9"), replacement + "\xC3\xA9");
}

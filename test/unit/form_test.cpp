#include "form.hpp"

#include <gtest/gtest.h>

using namespace twilio;

TEST(Form, keepsOrderAndRepeatedNames)
{
    const Parameters expected = {{"b", "1"}, {"a", "2"}, {"b", "3"}, {"b", "1"}};
    EXPECT_EQ(decodeForm("b=1&a=2&b=3&b=1"), expected);
}

TEST(Form, keepsEmptyValuesAndNames)
{
    const Parameters expected = {{"ToZip", ""}, {"flag", ""}, {"", "x"}, {"", ""}};
    EXPECT_EQ(decodeForm("ToZip=&flag&=x&="), expected);
    EXPECT_TRUE(decodeForm("").empty());
    EXPECT_TRUE(decodeForm("&&&").empty());
}

TEST(Form, decodesPlusAndEscapes)
{
    const Parameters expected = {{"Body", "Hi + there"}, {"From", "+15551230001"}, {"e", "\xC3\xA9"}};
    EXPECT_EQ(decodeForm("Body=Hi+%2B+there&From=%2B15551230001&e=%c3%A9"), expected);
}

TEST(Form, keepsInvalidEscapesAsTheyStand)
{
    const Parameters expected = {{"a", "%"}, {"b", "%4"}, {"c", "%zz"}, {"d", "100%"}, {"e", "%%41"}};
    EXPECT_EQ(decodeForm("a=%&b=%4&c=%zz&d=100%&e=%%2541"), expected);
}

TEST(Form, keepsEveryByte)
{
    std::string value;
    for (int byte = 0; byte < 256; byte++)
        value += static_cast<char>(byte);
    const Parameters parameters = {{"bytes", value}};
    EXPECT_EQ(decodeForm(encodeForm(parameters)), parameters);
}

TEST(Form, splitsAtTheFirstEqualsSign)
{
    const Parameters expected = {{"q", "a=b=c"}};
    EXPECT_EQ(decodeForm("q=a=b=c"), expected);
}

TEST(Form, escapesAllButTheUnreserved)
{
    EXPECT_EQ(encodeForm({{"a", "AZaz09-._~"}}), "a=AZaz09-._~");
    EXPECT_EQ(encodeForm({{"a", " +&=/?#'\xC3\xA9"}}), "a=%20%2B%26%3D%2F%3F%23%27%C3%A9");
    EXPECT_EQ(encodeForm({{"a", std::string(1, '\0')}}), "a=%00");
}

TEST(Form, encodesPairsInOrder)
{
    EXPECT_EQ(encodeForm({{"To", "+1"}, {"MediaUrl", "a"}, {"MediaUrl", "b c"}, {"Empty", ""}}),
              "To=%2B1&MediaUrl=a&MediaUrl=b%20c&Empty=");
    EXPECT_EQ(encodeForm({}), "");
}

TEST(Form, findsTheFirstOfAName)
{
    const Parameters parameters = decodeForm("a=1&b=2&a=3");
    EXPECT_EQ(*findParameter(parameters, "a"), "1");
    EXPECT_EQ(findParameter(parameters, "A"), nullptr);
}

#include "base64.hpp"

#include <gtest/gtest.h>

using twilio::decodeBase64;
using twilio::encodeBase64;

TEST(Base64, encodesTheVectorsOfTheRfc)
{
    EXPECT_EQ(encodeBase64(""), "");
    EXPECT_EQ(encodeBase64("f"), "Zg==");
    EXPECT_EQ(encodeBase64("fo"), "Zm8=");
    EXPECT_EQ(encodeBase64("foo"), "Zm9v");
    EXPECT_EQ(encodeBase64("foobar"), "Zm9vYmFy");
    EXPECT_EQ(encodeBase64("\xFF\xFE\xFB"), "//77");
}

TEST(Base64, decodesWhatItEncoded)
{
    std::string bytes;
    for (int i = 0; i < 256; i++) {
        const auto decoded = decodeBase64(encodeBase64(bytes));
        ASSERT_TRUE(decoded);
        EXPECT_EQ(decoded->view(), bytes);
        bytes += static_cast<char>(i * 7);
    }
}

TEST(Base64, refusesWhatIsNotBase64)
{
    for (const char* text : {"Zg", "Zg=", "Zg===", "Z===", "====", "Zh==", "Zm9=", "Zm9v ", "Zm-v", "Zm9v\n", "=Zm9"})
        EXPECT_FALSE(decodeBase64(text)) << text;
}

#include "retry.hpp"

#include <gtest/gtest.h>

using namespace std::chrono_literals;
using twilio::backoff;

TEST(Backoff, growsExponentiallyUpToACeiling)
{
    EXPECT_EQ(backoff(1, {}, 1.0), 1s);
    EXPECT_EQ(backoff(2, {}, 1.0), 2s);
    EXPECT_EQ(backoff(5, {}, 1.0), 16s);
    EXPECT_EQ(backoff(10, {}, 1.0), 300s);
    EXPECT_EQ(backoff(1'000'000, {}, 1.0), 300s);
}

TEST(Backoff, spreadsOverTheWholeInterval)
{
    EXPECT_EQ(backoff(3, {}, 0.0), 0s);
    EXPECT_EQ(backoff(3, {}, 0.25), 1s);
    EXPECT_EQ(backoff(3, {}, 0.5), 2s);
}

TEST(Backoff, takesRetryAfterAsAFloor)
{
    EXPECT_EQ(backoff(1, 30s, 0.0), 30s);
    EXPECT_EQ(backoff(1, 30s, 0.5), 30s + 500ms);
}

TEST(Backoff, believesNoAbsurdRetryAfter)
{
    EXPECT_EQ(backoff(1, 1'000'000'000s, 0.0), 1h);
    EXPECT_EQ(backoff(1, -5s, 0.0), 0s);
}

TEST(Backoff, toleratesAnyAttemptAndChance)
{
    EXPECT_EQ(backoff(0, {}, 1.0), 1s);
    EXPECT_EQ(backoff(-5, {}, 1.0), 1s);
    EXPECT_EQ(backoff(1, {}, 7.0), 1s);
    EXPECT_EQ(backoff(1, {}, -7.0), 0s);
}

#include "pacing.hpp"

#include <set>

#include <gtest/gtest.h>

using namespace std::chrono_literals;
using namespace twilio;

namespace {

const TimePoint start = TimePoint() + 1000h;

TenantId tenant(unsigned number)
{
    TenantId id;
    std::memcpy(id.bytes.data(), &number, sizeof number);
    return id;
}

int takeAll(TokenBucket& bucket, TimePoint now)
{
    int taken = 0;
    while (bucket.take(now))
        taken++;
    return taken;
}

} // namespace

TEST(TokenBucket, givesItsBurstAndThenItsRate)
{
    TokenBucket bucket(2, 5, start);
    EXPECT_EQ(takeAll(bucket, start), 5);
    EXPECT_EQ(takeAll(bucket, start + 499ms), 0);
    EXPECT_EQ(takeAll(bucket, start + 500ms), 1);
    EXPECT_EQ(takeAll(bucket, start + 2s), 3);
    EXPECT_EQ(takeAll(bucket, start + 1h), 5);
}

TEST(TokenBucket, saysWhenItIsReady)
{
    TokenBucket bucket(4, 1, start);
    EXPECT_EQ(bucket.readyAt(start), start);
    ASSERT_TRUE(bucket.take(start));
    EXPECT_EQ(bucket.readyAt(start), start + 250ms);
    EXPECT_EQ(bucket.readyAt(start + 100ms), start + 250ms);
    EXPECT_FALSE(bucket.take(start + 249ms));
    EXPECT_TRUE(bucket.take(bucket.readyAt(start + 100ms)));
}

TEST(TokenBucket, isNotReadyForLongWhereItsRateIsTiny)
{
    for (const double rate : {1e-6, 1e-10, 1e-300, 5e-324}) {
        TokenBucket bucket(rate, 1, start);
        ASSERT_TRUE(bucket.take(start));
        EXPECT_GE(bucket.readyAt(start), start + 24h) << rate;
        EXPECT_LE(bucket.readyAt(start), start + 24h * 366) << rate;
    }
}

TEST(TokenBucket, isAlwaysReadyWhenItSaysSo)
{
    for (const double rate : {0.1, 0.3, 1.0, 3.0, 7.0, 33.3, 1000.0}) {
        TokenBucket bucket(rate, 1, start);
        TimePoint now = start;
        for (int i = 0; i < 200; i++) {
            now = bucket.readyAt(now);
            ASSERT_TRUE(bucket.take(now)) << rate << " " << i;
        }
    }
}

TEST(TokenBucket, keepsItsRateOverALongTime)
{
    TokenBucket bucket(3, 1, start);
    int taken = 0;
    for (TimePoint now = start; now < start + 100s; now += 10ms)
        taken += takeAll(bucket, now);
    EXPECT_GE(taken, 295);
    EXPECT_LE(taken, 301);
}

TEST(TokenBucket, withoutARateIsNoLimit)
{
    TokenBucket bucket(0, 0, start);
    for (int i = 0; i < 1000; i++)
        ASSERT_TRUE(bucket.take(start));
    EXPECT_EQ(bucket.readyAt(start), start);
}

TEST(TokenBucket, toleratesTimeGoingBack)
{
    TokenBucket bucket(1, 2, start);
    EXPECT_TRUE(bucket.take(start));
    EXPECT_TRUE(bucket.take(start - 1h));
    EXPECT_FALSE(bucket.take(start - 1h));
    EXPECT_FALSE(bucket.take(start));
    EXPECT_EQ(bucket.readyAt(start - 1h), start + 1s);
    EXPECT_TRUE(bucket.take(start + 1s));
}

TEST(TokenBucket, takesANewRate)
{
    TokenBucket bucket(1, 10, start);
    EXPECT_EQ(takeAll(bucket, start), 10);
    bucket.setRate(10, 2, start);
    EXPECT_EQ(takeAll(bucket, start), 0);
    EXPECT_EQ(takeAll(bucket, start + 100ms), 1);
    bucket.setRate(10, 2, start + 200ms);
    EXPECT_EQ(takeAll(bucket, start + 200ms), 1) << "time is counted once";
    EXPECT_EQ(takeAll(bucket, start + 1h), 2);
    bucket.setRate(0, 0, start + 1h);
    EXPECT_TRUE(bucket.take(start + 1h));
    bucket.setRate(1, 5, start + 1h);
    EXPECT_EQ(takeAll(bucket, start + 1h), 5);
}

TEST(AskQuota, limitsEachTenantAlone)
{
    AskQuota quota(3);
    for (int i = 0; i < 3; i++)
        EXPECT_TRUE(quota.take(tenant(1), start));
    EXPECT_FALSE(quota.take(tenant(1), start));
    EXPECT_TRUE(quota.take(tenant(2), start));
    EXPECT_FALSE(quota.take(tenant(1), start + 19s));
    EXPECT_TRUE(quota.take(tenant(1), start + 20s));
}

TEST(AskQuota, zeroIsNoLimit)
{
    AskQuota quota(0);
    for (int i = 0; i < 1000; i++)
        ASSERT_TRUE(quota.take(tenant(1), start));
    EXPECT_EQ(quota.size(), 0u);
}

TEST(AskQuota, forgetsWhoHasNotAskedForAMinute)
{
    AskQuota quota(60);
    for (unsigned i = 0; i < 1000; i++)
        quota.take(tenant(i), start);
    EXPECT_EQ(quota.size(), 1000u);
    quota.take(tenant(5000), start + 2min);
    EXPECT_EQ(quota.size(), 1u);
}

TEST(AskQuota, forgetsNobodyElse)
{
    AskQuota quota(60);
    quota.take(tenant(1), start);
    for (int i = 0; i < 60; i++)
        EXPECT_TRUE(quota.take(tenant(2), start + 59s));
    quota.take(tenant(1), start + 1min); // a minute later it looks whom to forget
    EXPECT_TRUE(quota.take(tenant(2), start + 1min));
    EXPECT_FALSE(quota.take(tenant(2), start + 1min));
}

TEST(AskQuota, takesANewLimitAtOnce)
{
    AskQuota quota(2);
    quota.take(tenant(1), start);
    quota.take(tenant(1), start);
    EXPECT_FALSE(quota.take(tenant(1), start));
    quota.setLimit(0);
    EXPECT_TRUE(quota.take(tenant(1), start));
    quota.setLimit(1);
    EXPECT_TRUE(quota.take(tenant(1), start));
    EXPECT_FALSE(quota.take(tenant(1), start));
    quota.setLimit(1);
    EXPECT_FALSE(quota.take(tenant(1), start));
    quota.setLimit(2);
    EXPECT_TRUE(quota.take(tenant(1), start));
}

TEST(Aimd, halvesOnRefusalAndRisesSlowly)
{
    Aimd aimd(64);
    EXPECT_EQ(aimd.ceiling(), 64);
    aimd.refused(start);
    EXPECT_EQ(aimd.ceiling(), 32);
    for (int i = 0; i < 32; i++)
        aimd.succeeded();
    EXPECT_GE(aimd.ceiling(), 32);
    EXPECT_LE(aimd.ceiling(), 33);
    for (int i = 0; i < 10'000; i++)
        aimd.succeeded();
    EXPECT_EQ(aimd.ceiling(), 64);
}

TEST(Aimd, countsAVolleyOnce)
{
    Aimd aimd(64);
    for (int i = 0; i < 50; i++)
        aimd.refused(start + i * 10ms);
    EXPECT_EQ(aimd.ceiling(), 32);
    aimd.refused(start + 2s);
    EXPECT_EQ(aimd.ceiling(), 16);
}

TEST(Aimd, neverStops)
{
    Aimd aimd(2);
    for (int i = 0; i < 20; i++)
        aimd.refused(start + i * 10s);
    EXPECT_EQ(aimd.ceiling(), 1);
    EXPECT_EQ(Aimd(0).ceiling(), 1);
}

TEST(Aimd, followsANewMaximum)
{
    Aimd aimd(10);
    aimd.setMaximum(20);
    EXPECT_EQ(aimd.ceiling(), 20);
    aimd.setMaximum(5);
    EXPECT_EQ(aimd.ceiling(), 5);
    aimd.refused(start);
    aimd.setMaximum(100);
    EXPECT_EQ(aimd.ceiling(), 2);
}

TEST(Rotation, dealsInTurn)
{
    Rotation rotation;
    EXPECT_EQ(rotation.deal(), std::nullopt);
    for (unsigned i = 1; i <= 3; i++)
        rotation.enter(tenant(i));
    for (const unsigned expected : {1u, 2u, 3u, 1u, 2u})
        EXPECT_EQ(rotation.deal(), tenant(expected));
}

TEST(Rotation, letsANewcomerInWithinOneRound)
{
    Rotation rotation;
    rotation.enter(tenant(1));
    rotation.deal();
    rotation.enter(tenant(2));
    rotation.enter(tenant(1)); // in already: keeps its place
    EXPECT_EQ(rotation.size(), 2u);
    EXPECT_EQ(rotation.deal(), tenant(1));
    EXPECT_EQ(rotation.deal(), tenant(2));
}

TEST(Rotation, passesOverWhoHasLeft)
{
    Rotation rotation;
    for (unsigned i = 1; i <= 3; i++)
        rotation.enter(tenant(i));
    rotation.leave(tenant(2));
    rotation.leave(tenant(9));
    EXPECT_FALSE(rotation.contains(tenant(2)));
    EXPECT_EQ(rotation.deal(), tenant(1));
    EXPECT_EQ(rotation.deal(), tenant(3));
    rotation.leave(tenant(1));
    rotation.leave(tenant(3));
    EXPECT_TRUE(rotation.empty());
}

TEST(TenantId, hashesSpread)
{
    std::set<std::size_t> hashes;
    for (unsigned i = 0; i < 10'000; i++)
        hashes.insert(TenantHash()(tenant(i)));
    EXPECT_GT(hashes.size(), 9'990u);
}

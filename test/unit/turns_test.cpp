#include "turns.hpp"

#include <numeric>

#include <gtest/gtest.h>

#include "tenants.hpp"

using namespace std::chrono_literals;
using namespace twilio;
using namespace twilio::test;

namespace {

const TimePoint start = TimePoint() + 1000h;

Waiting waiting(unsigned number, int maxInFlight = 16, double rate = 0, TimePoint due = start)
{
    return {tenant(number), due, 0, rate, maxInFlight};
}

int countOf(const std::vector<Share>& shares, unsigned number)
{
    for (const Share& share : shares)
        if (share.user == tenant(number))
            return share.count;
    return 0;
}

} // namespace

TEST(Turns, dealEqualSharesToThoseWhoWait)
{
    for (int most : {100, 1'000'000'000}) {
        Turns turns;
        turns.list({waiting(1, most), waiting(2, most), waiting(3, most)}, start);
        auto const shares = turns.deal(30, start);
        for (unsigned number : {1u, 2u, 3u})
            EXPECT_EQ(countOf(shares, number), 10) << most;
    }
}

TEST(Turns, passOverATenantWhoseOrdersAreLocked)
{
    Turns turns;
    auto const claim = [&](TimePoint now, const TenantMap<int>& got) {
        turns.list({waiting(1), waiting(2)}, now);
        auto const shares = turns.deal(20, now);
        turns.claimed(shares, got);
        return countOf(shares, 1);
    };
    EXPECT_GT(claim(start, {{tenant(2), 1}}), 0);
    EXPECT_EQ(claim(start + 1ms, {{tenant(2), 1}}), 0) << "it is due, but nothing could be claimed";
    EXPECT_GT(turns.nextDue(), start + 100ms);
    EXPECT_GT(claim(turns.nextDue(), {{tenant(1), 1}}), 0) << "it is tried again";
    EXPECT_GT(claim(start + 1s, {{tenant(1), 1}}), 0) << "it has got one";
    EXPECT_GT(claim(start + 1s, {}), 0);
}

TEST(Turns, doNotPassOverATenantWhoseOrdersHadNothingToSend)
{
    Turns turns;
    Waiting each = waiting(1);
    for (each.dueSince = 100; each.dueSince < 110; each.dueSince++) {
        turns.list({each}, start);
        auto const shares = turns.deal(20, start);
        EXPECT_GT(countOf(shares, 1), 0);
        turns.claimed(shares, {});
    }
}

TEST(Turns, tellFromWhenOnATenantHasSomethingDue)
{
    Turns turns;
    Waiting first = waiting(1);
    Waiting second = waiting(2);
    first.dueSince = 100;
    second.dueSince = 200;
    turns.list({first, second}, start);
    for (const Share& share : turns.deal(2, start))
        EXPECT_EQ(share.dueSince, share.user == tenant(1) ? 100 : 200);
    first.dueSince = 50; // an order that waited for a commit
    turns.list({first, second}, start);
    for (const Share& share : turns.deal(2, start))
        EXPECT_EQ(share.dueSince, share.user == tenant(1) ? 50 : 200);
}

TEST(Turns, giveANewcomerASlotAtOnceBesideALongBacklog)
{
    Turns turns;
    turns.list({waiting(1, 1000)}, start);
    auto const first = turns.deal(500, start);
    turns.claimed(first, all(first));
    turns.list({waiting(1, 1000), waiting(2, 1000)}, start);
    EXPECT_EQ(countOf(turns.deal(2, start), 2), 1);
}

TEST(Turns, startNoMoreThanTheCeilingAndHoldSomeReady)
{
    Turns turns;
    turns.list({waiting(1, 4)}, start);
    auto const shares = turns.deal(100, start);
    EXPECT_EQ(countOf(shares, 1), 4 * openPerSlot);
    turns.claimed(shares, all(shares));
    for (int i = 0; i < 4; i++) {
        ASSERT_TRUE(turns.mayStart(tenant(1)));
        turns.started(tenant(1));
    }
    EXPECT_FALSE(turns.mayStart(tenant(1)));
    EXPECT_TRUE(turns.deal(100, start).empty());
    EXPECT_FALSE(turns.mayDeal()) << "nothing may be claimed until a request has ended";
    turns.finished(tenant(1));
    EXPECT_TRUE(turns.mayDeal());
    EXPECT_EQ(countOf(turns.deal(100, start), 1), 1);
}

TEST(Turns, areWorthAClaimWhenATenantHasLittleLeftToStartWhateverOthersHave)
{
    Turns turns;
    turns.list({waiting(1, 4), waiting(2, 4)}, start);
    auto const shares = turns.deal(100, start);
    EXPECT_TRUE(turns.isWorthAClaim());
    turns.claimed(shares, all(shares));
    for (int i = 0; i < 3; i++) {
        EXPECT_FALSE(turns.isWorthAClaim()) << "after " << i;
        turns.started(tenant(1));
        turns.finished(tenant(1));
    }
    turns.started(tenant(1));
    EXPECT_FALSE(turns.isWorthAClaim()) << "while it is in flight";
    turns.finished(tenant(1));
    EXPECT_TRUE(turns.isWorthAClaim());
    EXPECT_EQ(countOf(turns.deal(100, start), 1), 4);
}

TEST(Turns, lowerTheCeilingOn429AndRaiseItAfterSuccess)
{
    Turns turns;
    turns.list({waiting(1, 16)}, start);
    turns.slowDown(tenant(1), start);
    auto const shares = turns.deal(100, start);
    EXPECT_EQ(countOf(shares, 1), 8 * openPerSlot) << "as for the halved ceiling";
    for (int i = 0; i < 1000; i++)
        turns.succeeded(tenant(1));
    turns.claimed(shares, all(shares));
    EXPECT_EQ(countOf(turns.deal(100, start), 1), 8 * openPerSlot) << "as for the full ceiling again";
}

TEST(Turns, keepThePaceAndSayWhenTheNextSlotIsDue)
{
    Turns turns;
    turns.list({waiting(1, 16, 2)}, start);
    EXPECT_EQ(countOf(turns.deal(100, start), 1), 1);
    EXPECT_EQ(turns.paceAllows(), start + 500ms);
    EXPECT_EQ(turns.nextDue(), TimePoint::max()) << "for which nobody need be asked who waits";
    EXPECT_TRUE(turns.deal(100, start + 499ms).empty());
    EXPECT_EQ(countOf(turns.deal(100, start + 500ms), 1), 1);
}

TEST(Turns, takeNoTokenForWhatCouldNotBeClaimed)
{
    Turns turns;
    turns.list({waiting(1, 16, 0.1)}, start);
    turns.claimed(turns.deal(100, start), {});
    turns.list({waiting(1, 16, 0.1)}, start + 1s);
    EXPECT_EQ(countOf(turns.deal(100, start + 1s), 1), 1);
    EXPECT_EQ(countOf(turns.deal(100, start + 1s), 1), 0) << "one token, not two";
}

TEST(Turns, waitForOrdersThatAreDueLater)
{
    Turns turns;
    turns.list({waiting(1, 16, 0, start + 3s)}, start);
    EXPECT_FALSE(turns.mayDeal());
    EXPECT_EQ(turns.nextDue(), start + 3s);
}

TEST(Turns, passOverWhoeverHasNothingMore)
{
    Turns turns;
    turns.list({waiting(1)}, start);
    auto const shares = turns.deal(10, start);
    EXPECT_TRUE(turns.claimed(shares, {{tenant(1), 3}}));
    EXPECT_FALSE(turns.mayDeal());
}

TEST(Turns, passOverWhoeverIsHeldUntilItIsListedAgain)
{
    Turns turns;
    turns.list({waiting(1), waiting(2)}, start);
    turns.passOver(tenant(1));
    EXPECT_EQ(countOf(turns.deal(10, start), 1), 0);
    EXPECT_TRUE(turns.mayStart(tenant(1)));
    turns.list({waiting(1), waiting(2)}, start);
    EXPECT_GT(countOf(turns.deal(10, start), 1), 0);
}

TEST(Turns, dropWhoIsNoLongerListed)
{
    Turns turns;
    turns.list({waiting(1), waiting(2)}, start);
    turns.list({waiting(2)}, start);
    auto const shares = turns.deal(10, start);
    EXPECT_EQ(countOf(shares, 1), 0);
    EXPECT_EQ(countOf(shares, 2), 10);
}

TEST(Turns, keepWhoIsListedWithNothingQueuedOutOfTheRotation)
{
    Turns turns;
    turns.list({waiting(1)}, start);
    turns.refuse(tenant(1), {20003, "Authenticate"});
    turns.list({waiting(1, 16, 0, TimePoint::max())}, start);
    EXPECT_TRUE(turns.isListed(tenant(1)));
    EXPECT_NE(turns.refusal(tenant(1)), nullptr);
    EXPECT_TRUE(turns.deal(10, start).empty());
    EXPECT_EQ(turns.nextDue(), TimePoint::max());
    turns.list({}, start);
    EXPECT_FALSE(turns.isListed(tenant(1)));
}

TEST(Turns, holdBackAnAccountThatTwilioRefusesUntilItIsListedAgain)
{
    Turns turns;
    turns.list({waiting(1), waiting(2)}, start);
    turns.refuse(tenant(1), {20003, "Authenticate"});
    ASSERT_NE(turns.refusal(tenant(1)), nullptr);
    EXPECT_EQ(turns.refusal(tenant(1))->code, 20003);
    EXPECT_EQ(countOf(turns.deal(10, start), 1), 0);
    turns.list({waiting(1), waiting(2)}, start);
    EXPECT_EQ(turns.refusal(tenant(1)), nullptr);
    EXPECT_GT(countOf(turns.deal(10, start), 1), 0);
}

TEST(Turns, forgetWhoIsIdleAndNobodyElse)
{
    Turns turns;
    turns.list({waiting(1), waiting(2), waiting(3)}, start);
    turns.claimed(turns.deal(3, start), {{tenant(1), 1}, {tenant(2), 1}, {tenant(3), 1}});
    turns.started(tenant(1));
    turns.started(tenant(3));
    turns.finished(tenant(3));
    turns.list({}, start);
    turns.forgetIdle();
    EXPECT_NO_THROW(turns.finished(tenant(1))) << "it had a request in flight";
    EXPECT_NO_THROW(turns.started(tenant(2))) << "it had an order ready";
    EXPECT_THROW(turns.succeeded(tenant(3)), std::out_of_range) << "it had neither";
}

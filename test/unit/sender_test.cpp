// Orders in flight, and the thread that goes on with them.
#include <algorithm>

#include "engine_fixture.hpp"
#include "orders.hpp"
#include "sending_thread.hpp"

using namespace std::chrono_literals;
using namespace twilio;
using namespace twilio::test;

namespace {

class SenderTest : public EngineTest {
protected:
    // Pumps until so many orders are answered.
    static std::vector<Sender::Answered> waitFor(Sender& sender, HttpEngine& engine, std::size_t count)
    {
        std::vector<Sender::Answered> all;
        for (const TimePoint end = Clock::now() + patience; all.size() < count && Clock::now() < end;) {
            pollfd descriptor{engine.descriptor(), POLLIN, 0};
            ::poll(&descriptor, 1, static_cast<int>(std::clamp<long>(engine.waitMillis().count(), 0, 100)));
            sender.pump();
            for (Sender::Answered& each : sender.takeAnswered())
                all.push_back(std::move(each));
        }
        EXPECT_EQ(all.size(), count);
        return all;
    }

    static void add(Sender& sender, std::uint64_t first, std::uint64_t last)
    {
        for (std::uint64_t id = first; id <= last; id++)
            sender.add(order(id), post(id));
    }
};

} // namespace

TEST_F(SenderTest, startsNoMoreThanIsAllowed)
{
    serve([](const Received&) { return misbehave(Answer::Kind::hang); });
    HttpEngine engine(options());
    Sender sender(engine);
    readyFor(sender, 100);
    add(sender, 1, 10);
    sender.start();
    EXPECT_EQ(sender.inFlight(), 0u) << "nothing is allowed yet";
    sender.allow(4);
    sender.start();
    EXPECT_EQ(sender.inFlight(), 4u);
    EXPECT_EQ(sender.ready(), 6u);
}

TEST_F(SenderTest, startsManyInPartsBetweenWhichItCanBeTakenBack)
{
    serve([](const Received&) { return misbehave(Answer::Kind::hang); });
    HttpEngine engine(options());
    Sender sender(engine);
    sender.allow(100);
    readyFor(sender, 100);
    add(sender, 1, 40);
    std::vector<std::size_t> inFlight;
    while (sender.start())
        inFlight.push_back(sender.inFlight());
    EXPECT_EQ(inFlight, (std::vector<std::size_t>{16, 32, 40}));
}

TEST_F(SenderTest, keepsATenantBelowItsCeiling)
{
    serve([](const Received&) { return misbehave(Answer::Kind::hang); });
    HttpEngine engine(options());
    Sender sender(engine);
    sender.allow(100);
    readyFor(sender, 3);
    add(sender, 1, 9);
    sender.start();
    EXPECT_EQ(sender.inFlight(), 3u);
}

TEST_F(SenderTest, fillsASlotWhenItFallsFree)
{
    serve([](const Received&) { return respond(201, R"({"sid":"SM1"})"); });
    HttpEngine engine(options());
    Sender sender(engine);
    sender.allow(2);
    readyFor(sender, 2);
    add(sender, 1, 6);
    for (const Sender::Answered& each : waitFor(sender, engine, 6))
        EXPECT_EQ(std::get<Sent>(each.outcome).sid, "SM1");
    EXPECT_TRUE(sender.idle());
}

TEST_F(SenderTest, startsNothingMoreWhileManyBytesWaitToBeTaken)
{
    constexpr std::size_t size = Sender::mostAnswered / 4;
    serve([](const Received&) { return respond(200, '"' + std::string(size, 'x') + '"'); });
    Options roomy = options();
    roomy.maxResponseSize = 2 * size;
    HttpEngine engine(roomy);
    Sender sender(engine);
    sender.allow(1);
    readyFor(sender, 10);
    add(sender, 1, 10);
    sender.start();
    for (const TimePoint end = Clock::now() + patience; sender.inFlight() > 0 && Clock::now() < end;)
        sender.pump();
    EXPECT_EQ(sender.ready(), 6u);
    EXPECT_EQ(sender.takeAnswered().size(), 4u);
    waitFor(sender, engine, 4);
}

TEST_F(SenderTest, handsOutNoSecretOfAReply)
{
    serve([](const Received&) { return respond(201, R"({"sid":"SM1","auth_token":"0123456789abcdef"})"); });
    HttpEngine engine(options());
    Sender sender(engine);
    sender.allow(1);
    readyFor(sender, 1);
    add(sender, 1, 1);
    for (const Sender::Answered& each : waitFor(sender, engine, 1))
        EXPECT_EQ(each.reply.body.find("0123456789abcdef"), std::string::npos) << each.reply.body;
}

TEST_F(SenderTest, handsOutOfAnAnswerWhatTheKindWants)
{
    serve(
        [](const Received&) { return respond(201, R"({"sid":"SM1","body":"Hello","price":null,"status":"queued"})"); });
    HttpEngine engine(options());
    Sender sender(engine);
    readyFor(sender, 100);
    sender.allow(10);
    Order some = order(1);
    some.answerMembers = "sid status price";
    sender.add(some, post(1));
    sender.add(order(2), post(2));
    sender.start();
    for (const Sender::Answered& each : waitFor(sender, engine, 2))
        EXPECT_EQ(each.reply.body, each.order.id == 1
                                       ? R"({"sid":"SM1","status":"queued"})"
                                       : R"({"sid":"SM1","body":"Hello","price":null,"status":"queued"})");
}

TEST_F(SenderTest, startsNothingMoreForAnAccountThatTwilioRefuses)
{
    auto& server = serve([](const Received&) { return respond(401, R"({"code":20003,"message":"Authenticate"})"); });
    HttpEngine engine(options());
    Sender sender(engine);
    sender.allow(1);
    readyFor(sender, 10);
    add(sender, 1, 5);
    waitFor(sender, engine, 1);
    sender.start();
    EXPECT_EQ(sender.inFlight(), 0u);
    const std::vector<Sender::Refused> refused = sender.takeRefused();
    ASSERT_EQ(refused.size(), 4u);
    EXPECT_EQ(refused.front().order.id, 2);
    EXPECT_EQ(refused.front().why.code, 20003);
    EXPECT_TRUE(sender.idle());
    EXPECT_EQ(server.received().size(), 1u);
}

TEST_F(SenderTest, startsNothingMoreForWhoIsNoLongerListed)
{
    HttpEngine engine(options());
    Sender sender(engine);
    sender.allow(10);
    readyFor(sender, 10);
    sender.add(order(1), post(1));
    sender.turns().list({}, Clock::now());
    sender.start();
    EXPECT_EQ(sender.inFlight(), 0u);
    const std::vector<Sender::Refused> refused = sender.takeRefused();
    ASSERT_EQ(refused.size(), 1u);
    EXPECT_STREQ(refused.front().outcome, "retry");
}

TEST_F(SenderTest, startsNothingThatHasExpiredWhileItWasReady)
{
    auto& server = serve([](const Received&) { return respond(201, R"({"sid":"SM1"})"); });
    HttpEngine engine(options());
    Sender sender(engine);
    sender.allow(10);
    readyFor(sender, 3);
    auto const now = std::chrono::floor<std::chrono::microseconds>(std::chrono::system_clock::now());
    for (int id : {1, 2, 3}) {
        Order each = order(id);
        if (id != 3)
            each.expiresAt = now + (id == 1 ? -1ms : 1h);
        sender.add(std::move(each), post(id));
    }
    sender.start();
    EXPECT_EQ(sender.inFlight(), 2u);
    const std::vector<Sender::Refused> refused = sender.takeRefused();
    ASSERT_EQ(refused.size(), 1u);
    EXPECT_EQ(refused.front().order.id, 1);
    EXPECT_STREQ(refused.front().outcome, "expired");
    waitFor(sender, engine, 2);
    EXPECT_EQ(server.received().size(), 2u);
}

TEST_F(SenderTest, handsOnWhatOthersHaveAsked)
{
    serve([](const Received&) { return respond(200); });
    HttpEngine engine(options());
    Sender sender(engine);
    engine.start(get(7));
    std::optional<Reply> reply;
    for (const TimePoint end = Clock::now() + patience; !reply && Clock::now() < end; reply = sender.nextOther())
        sender.pump();
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->id, 7u);
    EXPECT_TRUE(sender.takeAnswered().empty());
}

TEST_F(SenderTest, givesBackWhatWasNotStarted)
{
    serve([](const Received&) { return misbehave(Answer::Kind::hang); });
    HttpEngine engine(options());
    Sender sender(engine);
    sender.allow(1);
    readyFor(sender, 10);
    add(sender, 1, 3);
    sender.start();
    EXPECT_EQ(sender.readyIds(), (std::vector<std::int64_t>{2, 3}));
    sender.giveBackReady();
    EXPECT_EQ(sender.ready(), 0u);
    EXPECT_EQ(sender.inFlight(), 1u);
}

TEST_F(SenderTest, goesOnWhileItIsLentToTheThread)
{
    constexpr std::uint64_t count = 300;
    for (const bool http2 : {false, true}) {
        auto& server = serve([](const Received&) { return respond(201, R"({"sid":"SM1"})"); }, http2);
        HttpEngine engine(options());
        Sender sender(engine);
        sender.allow(20);
        readyFor(sender, count);
        add(sender, 1, count);
        SendingThread thread(sender);
        {
            const SendingThread::Loan loan(thread);
            for (const TimePoint end = Clock::now() + patience; server.received().size() < count && Clock::now() < end;)
                std::this_thread::sleep_for(1ms);
        }
        EXPECT_EQ(server.received().size(), count);
        waitFor(sender, engine, count);
    }
}

TEST_F(SenderTest, isItsOwnersAgainAfterEachOfManyLoans)
{
    constexpr std::uint64_t count = 2000;
    serve([](const Received&) { return respond(201, R"({"sid":"SM1"})"); }, true);
    HttpEngine engine(options());
    Sender sender(engine);
    sender.allow(20);
    readyFor(sender, count);
    SendingThread thread(sender);
    std::vector<std::int64_t> answered;
    std::uint64_t added = 0;
    for (const TimePoint end = Clock::now() + patience; answered.size() < count && Clock::now() < end;) {
        for (int i = 0; i < 10 && added < count; i++, added++)
            add(sender, added + 1, added + 1);
        {
            const SendingThread::Loan loan(thread);
            std::this_thread::sleep_for(100us);
        }
        for (const Sender::Answered& each : sender.takeAnswered())
            answered.push_back(each.order.id);
        if (added % 500 == 0)
            thread.end(); // the next loan starts another
    }
    std::sort(answered.begin(), answered.end());
    EXPECT_EQ(answered.size(), count);
    EXPECT_EQ(std::unique(answered.begin(), answered.end()), answered.end());
}

TEST_F(SenderTest, tellsWhatHasFailedDuringALoan)
{
    Options unusable = options();
    unusable.userAgent = std::string(9'000'000, 'x'); // more than curl takes
    HttpEngine engine(unusable);
    Sender sender(engine);
    sender.allow(1);
    readyFor(sender, 1);
    add(sender, 1, 1);
    SendingThread thread(sender);
    EXPECT_NO_THROW(thread.check());
    {
        const SendingThread::Loan loan(thread);
    }
    EXPECT_THROW(thread.check(), std::bad_alloc);
    EXPECT_NO_THROW(thread.check());
}

TEST_F(SenderTest, endsInTheMiddleOfALoan)
{
    serve([](const Received&) { return misbehave(Answer::Kind::hang); });
    HttpEngine engine(options());
    Sender sender(engine);
    sender.allow(20);
    readyFor(sender, 20);
    add(sender, 1, 20);
    SendingThread thread(sender);
    const SendingThread::Loan loan(thread);
    thread.end();
    thread.end(); // as often as one likes
}

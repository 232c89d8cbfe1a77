// Many requests on one connection.
#include <map>

#include "engine_fixture.hpp"

using namespace std::chrono_literals;
using namespace twilio;
using namespace twilio::test;

TEST_F(EngineTest, manyStreamsShareAConnection)
{
    auto& server = serve([](const Received&) { return respond(201); }, true);
    HttpEngine engine(options());
    for (std::uint64_t id = 1; id <= 80; id++)
        engine.start(post(id));
    for (int i = 0; i < 80; i++)
        EXPECT_EQ(wait(engine).status, 201);
    EXPECT_EQ(server.connections(), 1);
}

TEST_F(EngineTest, hearsSlowStreamsAfterQuickOnes)
{
    auto& server = serve(
        [](const Received& request) {
            Answer answer = respond(201);
            answer.delay = request.number % 10 == 0 ? 100ms : 0ms;
            return answer;
        },
        true);
    HttpEngine engine(options());
    for (std::uint64_t id = 1; id <= 50; id++)
        engine.start(post(id));
    for (int i = 0; i < 50; i++)
        EXPECT_EQ(wait(engine).status, 201);
    EXPECT_EQ(server.connections(), 1);
}

// Requests that are started while others are being lost.
TEST_F(EngineTest, aConnectionThatBreaksIsFollowedByAFewOthers)
{
    auto& server = serve(
        [](const Received& request) {
            Answer answer = respond(201);
            answer.delay = 2ms;
            if (request.number == 20)
                answer.kind = Answer::Kind::drop;
            return answer;
        },
        true);
    HttpEngine engine(options());
    constexpr std::uint64_t count = 300;
    std::uint64_t started = 0;
    for (std::uint64_t finished = 0; finished < count; finished++) {
        while (started < count && engine.inFlight() < 90)
            engine.start(post(++started));
        wait(engine);
    }
    EXPECT_LE(server.connections(), 4);
}

// nginx retires a connection after 1,000 requests, and what it refuses then looks like a loss.
TEST_F(EngineTest, retiresAConnectionBeforeTheServerDoes)
{
    auto& server = serve([](const Received&) { return respond(201); }, true);
    HttpEngine engine(options());
    constexpr std::uint64_t count = 3000;
    std::uint64_t started = 0;
    for (std::uint64_t finished = 0; finished < count; finished++) {
        while (started < count && engine.inFlight() < 20)
            engine.start(post(++started));
        ASSERT_EQ(wait(engine).status, 201);
    }
    std::map<int, int> requests;
    for (const Received& request : server.received())
        EXPECT_LT(++requests[request.connection], 900);
    EXPECT_EQ(server.received().size(), count);
    EXPECT_LE(server.connections(), 5);
}

// A handle of libcurl 7.88 that was canceled refuses some options from then on.
TEST_F(EngineTest, newOptionsFitWhatWasUsedBefore)
{
    for (const bool http2 : {false, true}) {
        serve([](const Received&) { return respond(201); }, http2);
        Options changing = options();
        HttpEngine engine(changing);
        std::uint64_t id = 0;
        for (int round = 1; round <= 3; round++) {
            changing.requestTimeout = std::chrono::seconds(10 + round);
            engine.configure(changing);
            for (int i = 0; i < 20; i++)
                engine.start(post(++id));
            engine.pump();
            engine.cancel(id);
            EXPECT_EQ(wait(engine).transport, Transport::canceled);
            for (int i = 1; i < 20; i++)
                EXPECT_EQ(wait(engine).status, 201) << "round " << round << ", reply " << i;
        }
    }
}

TEST_F(EngineTest, anIdleConnectionOutlivesWhatTheServerSaysOnIt)
{
    auto& server = serve([](const Received&) { return respond(201); }, true);
    HttpEngine engine(options());
    for (std::uint64_t id = 1; id <= 10; id++) {
        ASSERT_EQ(ask(engine, post(id)).status, 201);
        for (int i = 0; i < 5; i++) {
            std::this_thread::sleep_for(1ms);
            engine.pump();
        }
    }
    EXPECT_EQ(server.connections(), 1);
}

// libcurl 7.88 misses the end of an answer that it had to read in parts (readAtOnce in http_transfer.cpp).
TEST_F(EngineTest, seesTheEndOfLargeAnswers)
{
    const auto sizeOf = [](std::uint64_t id) { return static_cast<std::size_t>(id) * 3001; };
    serve(
        [&](const Received& request) {
            return respond(200, std::string(sizeOf(static_cast<std::uint64_t>(request.number)), 'x'));
        },
        true);
    HttpEngine engine(options());
    for (std::uint64_t id = 1; id <= 60; id++) {
        const Reply reply = ask(engine, get(id));
        ASSERT_EQ(reply.transport, Transport::answered) << reply.error;
        ASSERT_EQ(reply.body.size(), sizeOf(id));
    }
}

TEST_F(EngineTest, seesTheEndOfLargeAnswersOnManyStreams)
{
    serve([](const Received&) { return respond(200, std::string(100'000, 'x')); }, true);
    HttpEngine engine(options());
    for (std::uint64_t id = 1; id <= 40; id++)
        engine.start(get(id));
    for (int i = 0; i < 40; i++) {
        const Reply reply = wait(engine);
        ASSERT_EQ(reply.transport, Transport::answered) << reply.error;
        ASSERT_EQ(reply.body.size(), 100'000u);
    }
}

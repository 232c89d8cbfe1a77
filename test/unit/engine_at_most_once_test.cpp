// What may have reached Twilio is never sent again: the promise that keeps a message from being doubled.
#include <set>

#include "engine_fixture.hpp"

using namespace std::chrono_literals;
using namespace twilio;
using namespace twilio::test;

namespace {

using Kind = Answer::Kind;

// Answers the first `good` requests, misbehaves at the next, answers all others.
TlsServer::Handler misbehaveAfter(int good, Kind kind)
{
    return [=](const Received& request) { return request.number == good + 1 ? misbehave(kind) : respond(201); };
}

} // namespace

class AtMostOnce : public EngineTest, public testing::WithParamInterface<bool> {
protected:
    static bool http2() { return GetParam(); }
};

INSTANTIATE_TEST_SUITE_P(Http, AtMostOnce, testing::Bool(),
                         [](const auto& info) { return info.param ? "http2" : "http1"; });

TEST_P(AtMostOnce, droppedOnANewConnection)
{
    auto& server = serve(misbehaveAfter(0, Kind::drop), http2());
    HttpEngine engine(options());
    EXPECT_EQ(ask(engine, post(1)).transport, Transport::lost);
    EXPECT_EQ(server.received().size(), 1u);
    EXPECT_EQ(ask(engine, post(2)).status, 201);
}

// This is where curl by itself sends it a second time.
TEST_P(AtMostOnce, droppedOnAKeptConnection)
{
    auto& server = serve(misbehaveAfter(3, Kind::drop), http2());
    HttpEngine engine(options());
    for (std::uint64_t id = 1; id <= 3; id++)
        ASSERT_EQ(ask(engine, post(id)).status, 201);
    const Reply reply = ask(engine, post(4));
    EXPECT_EQ(reply.transport, Transport::lost);
    EXPECT_FALSE(reply.error.empty());
    EXPECT_EQ(server.received().size(), 4u);
    EXPECT_LE(server.connections(), 2);
    EXPECT_EQ(ask(engine, post(5)).status, 201);
}

TEST_P(AtMostOnce, droppedWithoutABody)
{
    auto& server = serve(misbehaveAfter(1, Kind::drop), http2());
    HttpEngine engine(options());
    ASSERT_EQ(ask(engine, post(1)).status, 201);
    EXPECT_EQ(ask(engine, post(2, "")).transport, Transport::lost);
    EXPECT_EQ(server.received().size(), 2u);
}

TEST_P(AtMostOnce, droppedDeletePutAndLongPost)
{
    for (const char* method : {"DELETE", "PUT", "POST"}) {
        auto& server = serve(misbehaveAfter(1, Kind::drop), http2());
        HttpEngine engine(options());
        ASSERT_EQ(ask(engine, post(1)).status, 201);
        Request request = post(2, std::string(method) == "DELETE" ? "" : "Body=" + std::string(200'000, 'x'));
        request.method = method;
        EXPECT_EQ(ask(engine, std::move(request)).transport, Transport::lost) << method;
        EXPECT_EQ(server.received().size(), 2u) << method;
    }
}

TEST_P(AtMostOnce, manyOnKeptConnectionsAtOnce)
{
    auto& server = serve(
        [](const Received& request) {
            return request.number > 40 && request.number % 7 == 0 ? misbehave(Kind::drop) : respond(201);
        },
        http2());
    HttpEngine engine(options());
    constexpr std::uint64_t count = 400;
    std::uint64_t started = 0;
    std::uint64_t answered = 0;
    for (std::uint64_t finished = 0; finished < count; finished++) {
        while (started < count && engine.inFlight() < 20) {
            started++;
            engine.start(post(started, "n=" + std::to_string(started)));
        }
        const Reply reply = wait(engine);
        const bool isAnswered = reply.transport == Transport::answered;
        answered += isAnswered ? 1 : 0;
        EXPECT_TRUE(isAnswered || reply.transport == Transport::lost) << reply.error;
    }
    std::multiset<std::string> bodies;
    for (const Received& request : server.received())
        bodies.insert(request.body);
    for (const std::string& body : bodies)
        EXPECT_EQ(bodies.count(body), 1u) << body;
    EXPECT_GE(bodies.size(), answered);
    EXPECT_LT(answered, count);
    EXPECT_GT(answered, 0u);
}

TEST_P(AtMostOnce, whatTheServerHungUpOnWhileIdleIsSentOnANewConnection)
{
    auto& server = serve(
        [](const Received&) {
            Answer answer = respond(201);
            answer.closeAfter = true;
            return answer;
        },
        http2());
    HttpEngine engine(options());
    for (std::uint64_t id = 1; id <= 5; id++) {
        EXPECT_EQ(ask(engine, post(id)).status, 201);
        std::this_thread::sleep_for(50ms); // until the server has closed
    }
    EXPECT_EQ(server.received().size(), 5u);
    EXPECT_EQ(server.connections(), 5);
}

TEST_P(AtMostOnce, aServerThatHungUpAndIsGoneIsUnreachable)
{
    serve([](const Received&) { return respond(201); }, http2());
    HttpEngine engine(options());
    EXPECT_EQ(ask(engine, post(1)).status, 201);
    server_.reset();
    EXPECT_EQ(ask(engine, post(2)).transport, Transport::unreachable);
    EXPECT_EQ(ask(engine, get(3)).transport, Transport::unreachable);
}

TEST_F(EngineTest, repeatsAGetOnAConnectionThatBroke)
{
    auto& server = serve(misbehaveAfter(1, Kind::drop));
    HttpEngine engine(options());
    ASSERT_EQ(ask(engine, get(1)).status, 201);
    EXPECT_EQ(ask(engine, get(2)).status, 201);
    EXPECT_EQ(server.received().size(), 3u);
}

TEST_F(EngineTest, aStreamResetByTheServerIsNotRepeated)
{
    for (const Kind kind : {Kind::reset_stream, Kind::go_away, Kind::refuse}) {
        auto& server = serve(misbehaveAfter(1, kind), true);
        HttpEngine engine(options());
        ASSERT_EQ(ask(engine, post(1)).status, 201);
        EXPECT_EQ(ask(engine, post(2)).transport, Transport::lost);
        EXPECT_EQ(server.received().size(), 2u);
        EXPECT_EQ(ask(engine, post(3)).status, 201);
    }
}

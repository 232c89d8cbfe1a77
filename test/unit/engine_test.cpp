// Requests and replies: what is sent, what is kept, what ends how.
#include <algorithm>
#include <atomic>
#include <set>

#include <fcntl.h>
#include <sys/epoll.h>

#include "engine_fixture.hpp"

using namespace std::chrono_literals;
using namespace twilio;
using namespace twilio::test;

namespace {

using Kind = Answer::Kind;

bool contains(const std::string& text, const std::string& part)
{
    return text.find(part) != std::string::npos;
}

} // namespace

TEST_F(EngineTest, sendsAPostAndBringsTheAnswer)
{
    auto& server = serve([](const Received&) {
        Answer answer = respond(201, R"({"sid":"SM1"})");
        answer.headers = "Twilio-Request-Id: RQ123\r\nRetry-After: 17\r\n";
        return answer;
    });
    HttpEngine engine(options());
    engine.start(post(7));
    EXPECT_EQ(engine.inFlight(), 1u);
    const Reply reply = wait(engine);
    EXPECT_EQ(reply.id, 7u);
    EXPECT_EQ(reply.transport, Transport::answered) << reply.error;
    EXPECT_EQ(reply.status, 201);
    EXPECT_EQ(reply.body, R"({"sid":"SM1"})");
    EXPECT_EQ(reply.requestId, "RQ123");
    EXPECT_EQ(reply.retryAfter, 17s);
    EXPECT_GT(reply.duration, 0us);
    EXPECT_EQ(engine.inFlight(), 0u);

    const auto received = server.received();
    ASSERT_EQ(received.size(), 1u);
    const std::string& head = received[0].head;
    EXPECT_EQ(received[0].body, "To=%2B1555&Body=x");
    EXPECT_TRUE(head.starts_with("POST /2010-04-01/Accounts/AC1/Messages.json HTTP/1.1\r\n")) << head;
    EXPECT_TRUE(contains(head, "\r\nHost: api.twilio.com\r\n")) << head;
    EXPECT_TRUE(contains(head, "\r\nAuthorization: Basic QUMxOnRva2Vu\r\n")) << head;
    EXPECT_TRUE(contains(head, "\r\nContent-Type: application/x-www-form-urlencoded\r\n")) << head;
    EXPECT_TRUE(contains(head, "\r\nAccept: application/json\r\n")) << head;
    EXPECT_TRUE(contains(head, "\r\nUser-Agent: pg_twilio/test\r\n")) << head;
    EXPECT_FALSE(contains(head, "Expect")) << head;
}

TEST_F(EngineTest, sendsEveryMethod)
{
    auto& server = serve([](const Received&) { return respond(200); });
    HttpEngine engine(options());
    std::uint64_t id = 0;
    for (const char* method : {"GET", "POST", "DELETE", "PUT", "GET", "POST"}) {
        Request request = post(++id, std::string(method) == "POST" || std::string(method) == "PUT" ? "a=b" : "");
        request.method = method;
        EXPECT_EQ(ask(engine, std::move(request)).status, 200);
        const Received last = server.received().back();
        EXPECT_TRUE(last.head.starts_with(std::string(method) + " /")) << last.head;
        EXPECT_EQ(contains(last.head, "Content-Type"), !last.body.empty()) << last.head;
    }
    EXPECT_EQ(server.connections(), 1);
}

TEST_F(EngineTest, refusesWhatIsNoRequest)
{
    serve([](const Received&) { return respond(200); });
    HttpEngine engine(options());
    Request badMethod = post(1);
    badMethod.method = "POST / HTTP/1.1\r\nX: y";
    Request badType = post(2);
    badType.contentType = "a/b\r\nX: y";
    Request badUrl = post(3);
    badUrl.url = "https://api.twilio.com/a\r\nX: y";
    Request plain = post(4);
    plain.url = "http://api.twilio.com/";
    Request file = post(5);
    file.url = "file:///etc/passwd";
    for (Request* request : {&badMethod, &badType, &badUrl, &plain, &file}) {
        const Reply reply = ask(engine, std::move(*request));
        EXPECT_EQ(reply.transport, Transport::unreachable);
        EXPECT_FALSE(reply.error.empty());
    }
    EXPECT_EQ(ask(engine, post(6)).status, 200);
    EXPECT_EQ(server_->received().size(), 1u);
}

TEST_F(EngineTest, keepsTheConnection)
{
    auto& server = serve([](const Received&) { return respond(201); });
    HttpEngine engine(options());
    for (std::uint64_t id = 1; id <= 20; id++)
        EXPECT_EQ(ask(engine, post(id)).id, id);
    EXPECT_EQ(server.connections(), 1);
    engine.forget();
    EXPECT_EQ(ask(engine, post(21)).status, 201);
}

TEST_F(EngineTest, sharesConnectionsButNotCredentials)
{
    auto& server = serve([](const Received&) { return respond(201); });
    HttpEngine engine(options());
    for (std::uint64_t id = 1; id <= 10; id++) {
        Request request = post(id);
        request.username = "AC" + std::to_string(id % 3);
        if (id % 4 == 0)
            request.username.clear();
        ASSERT_EQ(ask(engine, std::move(request)).status, 201);
    }
    const char* expected[] = {"QUMwOnRva2Vu", "QUMxOnRva2Vu", "QUMyOnRva2Vu"}; // AC0:token, AC1:token, AC2:token
    const auto received = server.received();
    for (std::size_t i = 0; i < received.size(); i++) {
        const std::size_t id = i + 1;
        const std::string& head = received[i].head;
        if (id % 4 == 0) {
            EXPECT_FALSE(contains(head, "Authorization")) << head;
        } else {
            EXPECT_TRUE(contains(head, "Authorization: Basic " + std::string(expected[id % 3]) + "\r\n")) << head;
            EXPECT_EQ(head.find("Authorization"), head.rfind("Authorization")) << head;
        }
    }
    EXPECT_EQ(server.connections(), 1);
}

TEST_F(EngineTest, answersManyAtOnceEachItsOwn)
{
    serve([](const Received& request) { return respond(201, "{\"body\":\"" + request.body + "\"}"); });
    HttpEngine engine(options());
    constexpr std::uint64_t count = 300;
    std::set<std::uint64_t> open;
    for (std::uint64_t id = 1; id <= count; id++) {
        if (open.size() >= 50)
            open.erase(wait(engine).id);
        engine.start(post(id, "n=" + std::to_string(id)));
        open.insert(id);
    }
    while (!open.empty()) {
        const Reply reply = wait(engine);
        EXPECT_EQ(reply.body, "{\"body\":\"n=" + std::to_string(reply.id) + "\"}") << reply.error;
        open.erase(reply.id);
    }
    EXPECT_EQ(server_->received().size(), count);
    EXPECT_LT(server_->connections(), 100);
}

TEST_F(EngineTest, keepsConnectionsFromOneBurstToTheNext)
{
    auto& server = serve([](const Received&) {
        Answer answer = respond(201);
        answer.delay = 20ms; // so that each of a burst needs a connection of its own
        return answer;
    });
    HttpEngine engine(options());
    std::uint64_t id = 0;
    for (int burst = 0; burst < 4; burst++) {
        for (int i = 0; i < 30; i++)
            engine.start(post(++id));
        for (int i = 0; i < 30; i++)
            EXPECT_EQ(wait(engine).status, 201);
    }
    EXPECT_LE(server.connections(), 35);
}

TEST_F(EngineTest, ownsOneDescriptorThatCanBeNested)
{
    serve([](const Received&) { return respond(201); });
    HttpEngine engine(options());
    const int outer = ::epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{};
    event.events = EPOLLIN;
    ASSERT_EQ(::epoll_ctl(outer, EPOLL_CTL_ADD, engine.descriptor(), &event), 0);
    EXPECT_NE(::fcntl(engine.descriptor(), F_GETFD) & FD_CLOEXEC, 0);
    engine.start(post(1));
    const TimePoint end = Clock::now() + patience;
    while (engine.inFlight() > 0 && Clock::now() < end) {
        engine.pump();
        ::epoll_wait(outer, &event, 1, static_cast<int>(std::clamp<long>(engine.waitMillis().count(), 0, 1000)));
    }
    EXPECT_EQ(engine.next()->status, 201);
    ::close(outer);
}

TEST_F(EngineTest, leavesWhatHasComeToTheNextCallWhenItIsRecalled)
{
    std::atomic<bool> isAsked = false;
    std::atomic<bool> mayAnswer = false;
    serve([&](const Received&) {
        isAsked = true;
        for (const TimePoint end = Clock::now() + patience; !mayAnswer && Clock::now() < end;)
            std::this_thread::sleep_for(1ms);
        return respond(201);
    });
    HttpEngine engine(options());
    engine.start(post(1));
    for (const TimePoint end = Clock::now() + patience; !isAsked && Clock::now() < end;)
        engine.pump();
    mayAnswer = true;
    pollfd descriptor{engine.descriptor(), POLLIN, 0};
    ASSERT_EQ(::poll(&descriptor, 1, static_cast<int>(std::chrono::milliseconds(patience).count())), 1);
    const Recall recalled = true;
    for (int i = 0; i < 10; i++)
        engine.pump(recalled);
    EXPECT_FALSE(engine.next());
    EXPECT_EQ(wait(engine).status, 201);
}

TEST_F(EngineTest, restsWhenNothingIsInFlight)
{
    serve([](const Received&) { return respond(201); });
    HttpEngine engine(options());
    EXPECT_EQ(engine.waitMillis(), -1ms);
    ask(engine, post(1));
    for (int i = 0; i < 100 && engine.waitMillis() >= 0ms; i++) {
        std::this_thread::sleep_for(std::max(engine.waitMillis(), 1ms));
        engine.pump();
    }
    EXPECT_EQ(engine.waitMillis(), -1ms);
    epoll_event event{};
    EXPECT_EQ(::epoll_wait(engine.descriptor(), &event, 1, 100), 0);
}

TEST_F(EngineTest, timesOutAfterSending)
{
    auto& server = serve([](const Received&) { return misbehave(Kind::hang); });
    Options patient = options();
    patient.requestTimeout = 2 * patience;
    HttpEngine engine(patient);
    Request request = post(1);
    request.timeout = 200ms;
    const Reply reply = ask(engine, std::move(request));
    EXPECT_EQ(reply.transport, Transport::timed_out);
    EXPECT_EQ(server.received().size(), 1u);
}

TEST_F(EngineTest, aTimeoutBeforeSendingIsUnreachable)
{
    auto& server = serve([](const Received&) { return respond(201); });
    server.delayHandshakes(10s);
    HttpEngine engine(options());
    Request request = post(1);
    request.timeout = 200ms;
    EXPECT_EQ(ask(engine, std::move(request)).transport, Transport::unreachable);
    Options quick = options();
    quick.connectTimeout = 200ms;
    engine.configure(quick);
    EXPECT_EQ(ask(engine, post(2)).transport, Transport::unreachable);
    EXPECT_TRUE(server.received().empty());
}

TEST_F(EngineTest, aRefusedConnectionIsUnreachable)
{
    HttpEngine engine(options());
    const Reply reply = ask(engine, post(1));
    EXPECT_EQ(reply.transport, Transport::unreachable);
    EXPECT_EQ(reply.status, 0);
    EXPECT_FALSE(reply.error.empty());
}

TEST_F(EngineTest, aNameThatDoesNotResolveIsUnreachable)
{
    Options nowhere = options();
    nowhere.connectTo = "nowhere.invalid:443";
    nowhere.connectTimeout = 3s;
    HttpEngine engine(nowhere);
    EXPECT_EQ(ask(engine, post(1)).transport, Transport::unreachable);
}

TEST_F(EngineTest, cutsOffALargeBody)
{
    serve([](const Received&) { return respond(201, std::string(200'000, 'x')); });
    Options small = options();
    small.maxResponseSize = 100'000;
    HttpEngine engine(small);
    const Reply reply = ask(engine, post(1));
    EXPECT_EQ(reply.transport, Transport::too_large);
    EXPECT_EQ(reply.status, 201);
    EXPECT_LE(reply.body.size(), 100'000u);
    small.maxResponseSize = 200'000;
    engine.configure(small);
    EXPECT_EQ(ask(engine, post(2)).body.size(), 200'000u);
}

TEST_F(EngineTest, anAnswerCutShortIsLost)
{
    serve([](const Received&) { return misbehave(Kind::cut_short); });
    HttpEngine engine(options());
    EXPECT_EQ(ask(engine, post(1)).transport, Transport::lost);
}

TEST_F(EngineTest, doesNotFollowRedirects)
{
    auto& server = serve([](const Received&) {
        Answer answer = respond(307);
        answer.headers = "Location: https://api.twilio.com/elsewhere\r\n";
        return answer;
    });
    HttpEngine engine(options());
    EXPECT_EQ(ask(engine, get(1)).status, 307);
    EXPECT_EQ(ask(engine, post(2)).status, 307);
    EXPECT_EQ(server.received().size(), 2u);
}

TEST_F(EngineTest, cancelsOneAndKeepsTheOthers)
{
    serve([](const Received& request) { return request.body == "hang=1" ? misbehave(Kind::hang) : respond(201); });
    HttpEngine engine(options());
    engine.start(post(1, "hang=1"));
    while (server_->received().empty()) {
        engine.pump();
        std::this_thread::sleep_for(1ms);
    }
    engine.start(post(2));
    engine.cancel(1);
    engine.cancel(99);
    EXPECT_EQ(engine.inFlight(), 1u);
    const Reply canceled = wait(engine);
    EXPECT_EQ(canceled.id, 1u);
    EXPECT_EQ(canceled.transport, Transport::canceled);
    EXPECT_EQ(wait(engine).status, 201);
    EXPECT_EQ(engine.inFlight(), 0u);
}

TEST_F(EngineTest, goesThroughAProxyWhenOneIsSet)
{
    serve([](const Received&) { return respond(201); });
    Options proxied = options();
    proxied.proxy = "http://127.0.0.1:1";
    HttpEngine engine(proxied);
    const Reply reply = ask(engine, post(1));
    EXPECT_EQ(reply.transport, Transport::unreachable);
    EXPECT_TRUE(server_->received().empty());
}

TEST_F(EngineTest, tellsNobodyThePasswordOfAProxy)
{
    for (const char* proxy :
         {"http://user:secret@127.0.0.1:1", "http://user:secret@127.0.0.1:80a", "http://user:secret@nowhere.invalid:1",
          "socks5://user:secret@127.0.0.1:1", "http://user:secret:127.0.0.1:1", "http://user:secret#@127.0.0.1:1",
          "https://user:secret@127.0.0.1:99999", "http://user:secret@[127.0.0.1"}) {
        Options changed = options();
        changed.proxy = proxy;
        HttpEngine engine(changed);
        const Reply reply = ask(engine, post(1));
        EXPECT_EQ(reply.transport, Transport::unreachable) << proxy;
        EXPECT_EQ(reply.error.find("secret"), std::string::npos) << reply.error;
    }
}

TEST_F(EngineTest, ignoresProxiesOfTheEnvironment)
{
    serve([](const Received&) { return respond(201); });
    ::setenv("https_proxy", "http://127.0.0.1:1", 1);
    ::setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    HttpEngine engine(options());
    EXPECT_EQ(ask(engine, post(1)).status, 201);
    ::unsetenv("https_proxy");
    ::unsetenv("ALL_PROXY");
}

TEST_F(EngineTest, diesInPeaceWithRequestsInFlight)
{
    serve([](const Received&) { return misbehave(Kind::hang); });
    {
        HttpEngine engine(options());
        for (std::uint64_t id = 1; id <= 10; id++)
            engine.start(post(id));
        engine.pump();
    }
    HttpEngine untouched(options());
    untouched.start(post(1));
}

TEST_F(EngineTest, refusesANumberThatIsTaken)
{
    serve([](const Received&) { return respond(201); });
    HttpEngine engine(options());
    engine.start(post(1));
    engine.start(post(1));
    EXPECT_EQ(engine.inFlight(), 1u);
    EXPECT_EQ(wait(engine).transport, Transport::unreachable);
    EXPECT_EQ(wait(engine).status, 201);
}

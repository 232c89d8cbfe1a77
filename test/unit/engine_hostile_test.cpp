// Servers, networks and proxies that are broken. An order goes again only where it is certain that nobody has taken it,
// one broken exchange is no other's, and the next request fares as if nothing had happened.
#include <cstring>
#include <map>

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <curl/curl.h>

#include "engine_fixture.hpp"

using namespace std::chrono_literals;
using namespace twilio;
using namespace twilio::test;

namespace {

Answer raw(std::string bytes)
{
    Answer answer;
    answer.kind = Answer::Kind::raw;
    answer.pieces = {std::move(bytes)};
    return answer;
}

Answer byteByByte(const std::string& bytes, std::chrono::milliseconds pause)
{
    Answer answer = raw("");
    answer.pause = pause;
    answer.pieces.clear();
    for (const char byte : bytes)
        answer.pieces.emplace_back(1, byte);
    return answer;
}

Answer thenClose(Answer answer)
{
    answer.closeAfter = true;
    return answer;
}

Answer thenReset(Answer answer)
{
    answer.resetAfter = true;
    return answer;
}

std::string repeated(const std::string& text, int times)
{
    std::string all;
    while (times-- > 0)
        all += text;
    return all;
}

const std::string created = "HTTP/1.1 201 Created\r\nContent-Length: 13\r\n\r\n{\"sid\":\"SM1\"}";

// 201 with what may follow, the body to be said apart.
Answer createdWith(const std::string& headers, const std::string& body)
{
    return raw("HTTP/1.1 201 Created\r\n" + headers + "\r\n" + body);
}

// ---- frames of HTTP/2

std::string headers(std::uint32_t stream, const std::string& status, bool isLast = false)
{
    return http2Frame(1, isLast ? 5 : 4, stream, "\x08\x03" + status);
}

std::string data(std::uint32_t stream, bool isLast = true)
{
    return http2Frame(0, isLast ? 1 : 0, stream, R"({"sid":"SM1"})");
}

std::string createdOn(std::uint32_t stream)
{
    return headers(stream, "201") + data(stream);
}

std::string goAway(std::uint32_t lastStream)
{
    return http2Frame(7, 0, 0, bigEndian(lastStream) + bigEndian(0));
}

enum Fate { sent, again, rejected, unknown }; // as Outcome orders them

class HostileServer : public EngineTest {
protected:
    using Misbehaviour = std::function<Answer(std::uint32_t stream)>;

    // What comes of a request to which the server answers so. That before it and that after it get their own answers.
    Fate fateOf(const Misbehaviour& misbehaviour, bool http2)
    {
        auto& server = serve(
            [&](const Received& request) {
                return request.body == "n=2" ? misbehaviour(request.stream) : respond(201, '"' + request.body + '"');
            },
            http2);
        Options impatient = options();
        impatient.requestTimeout = 1s;
        HttpEngine engine(impatient);
        EXPECT_EQ(ask(engine, post(1, "n=1")).body, R"("n=1")");
        const Reply reply = ask(engine, post(2, "n=2"));
        EXPECT_EQ(ask(engine, post(3, "n=3")).body, R"("n=3")");
        EXPECT_EQ(server.received().size(), 3u);
        return static_cast<Fate>(interpret(reply, Clock::now(), 1, 0).index());
    }

    Fate fateOf(const Answer& answer)
    {
        return fateOf([&](std::uint32_t) { return answer; }, false);
    }

    Fate fateOfFrames(const std::function<std::string(std::uint32_t)>& frames)
    {
        return fateOf([&](std::uint32_t stream) { return raw(frames(stream)); }, true);
    }
};

// It and the nghttp2 beside it take some of what follows for something else than 7.88 does; what is "{}" is no message
// either way, so nothing is believed of it.
bool isLibcurl8()
{
    return curl_version_info(CURLVERSION_NOW)->version_num >= 0x080000;
}

} // namespace

TEST_F(HostileServer, saysMoreThanAnAnswer)
{
    EXPECT_EQ(fateOf(raw("HTTP/1.1 100 Continue\r\n\r\n" + created)), sent);
    EXPECT_EQ(fateOf(raw("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + created)), sent);
    EXPECT_EQ(fateOf(raw(repeated("HTTP/1.1 100 Continue\r\n\r\n", 20'000) + created)), unknown);
    EXPECT_EQ(fateOf(raw(created + created)), sent);
    EXPECT_EQ(fateOf(createdWith("Content-Length: 2\r\n", "{}and more")), sent);
}

TEST_F(HostileServer, saysSomethingElse)
{
    EXPECT_EQ(fateOf(raw("HTTP/1.1 204 No Content\r\n\r\n")), sent);
    EXPECT_EQ(fateOf(raw("HTTP/1.1 304 Not Modified\r\n\r\n")), unknown);
    EXPECT_EQ(fateOf(raw("HTTP/1.1 302 Found\r\nLocation: https://example.com/\r\nContent-Length: 0\r\n\r\n")),
              unknown);
    EXPECT_EQ(fateOf(thenClose(raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"))), unknown);
    EXPECT_EQ(fateOf(raw("HTTP/1.1 600 Odd\r\nContent-Length: 2\r\n\r\n{}")), unknown);
    EXPECT_EQ(fateOf(raw("HTTP/3.0 201 Created\r\nContent-Length: 2\r\n\r\n{}")), isLibcurl8() ? sent : unknown);
    EXPECT_EQ(fateOf(raw("garbage\r\n\r\n")), unknown);
    EXPECT_EQ(fateOf(createdWith("Content-Encoding: gzip\r\nContent-Length: 4\r\n", "\x1f\x8b\x08q")), unknown);
}

TEST_F(HostileServer, breaksOffOrMiscounts)
{
    EXPECT_EQ(fateOf(thenClose(raw(""))), unknown);
    EXPECT_EQ(fateOf(thenReset(raw(""))), unknown);
    EXPECT_EQ(fateOf(thenReset(raw("HTTP/1.1 201 Cre"))), unknown);
    EXPECT_EQ(fateOf(thenReset(createdWith("Content-Length: 20\r\n", "{"))), unknown);
    EXPECT_EQ(fateOf(thenClose(createdWith("Content-Length: 20\r\n", "{}"))), unknown);
    EXPECT_EQ(fateOf(createdWith("Content-Length: -5\r\n", "{}")), unknown);
    EXPECT_EQ(fateOf(thenClose(createdWith("", "{}"))), sent);
    EXPECT_EQ(fateOf(createdWith("Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\nX: y\r\n\r\n")), sent);
    EXPECT_EQ(fateOf(createdWith("Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\nnonsense\r\n\r\n")), unknown);
    EXPECT_EQ(fateOf(createdWith("Transfer-Encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n")), unknown);
    EXPECT_EQ(fateOf(thenClose(createdWith("Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n"))), unknown);
}

TEST_F(HostileServer, hasMuchToSayOrMuchTime)
{
    const std::string length = "Content-Length: 2\r\n";
    EXPECT_EQ(fateOf(createdWith("X: " + std::string(64 * 1024, 'x') + "\r\n" + length, "{}")), sent);
    EXPECT_EQ(fateOf(createdWith(repeated("X: " + std::string(80, 'x') + "\r\n", 20'000) + length, "{}")), unknown);
    EXPECT_EQ(fateOf(byteByByte(created, 2ms)), sent);
    EXPECT_EQ(fateOf(byteByByte(created, 100ms)), unknown);
}

TEST_F(HostileServer, sendsStrangeFrames)
{
    EXPECT_EQ(fateOfFrames([](auto stream) { return headers(stream, "103") + createdOn(stream); }), sent);
    EXPECT_EQ(fateOfFrames([](auto stream) { return headers(stream, "204", true); }), sent);
    EXPECT_EQ(fateOfFrames([](auto stream) { return createdOn(stream) + http2Frame(3, 0, stream, bigEndian(0)); }),
              sent);
    EXPECT_EQ(fateOfFrames([](auto stream) { return repeated(headers(stream, "100"), 100'000); }), unknown);
    EXPECT_EQ(fateOfFrames([](auto stream) { return data(stream); }), unknown);
    EXPECT_EQ(fateOfFrames([](auto stream) { return headers(stream, "201") + createdOn(stream); }), unknown);
    EXPECT_EQ(fateOfFrames([](auto stream) { return data(stream + 100); }), unknown);
    EXPECT_EQ(fateOfFrames([](auto stream) { return http2Frame(5, 4, stream, bigEndian(2) + "\x82\x87\x84"); }),
              unknown);
    EXPECT_EQ(fateOfFrames([](auto) { return created; }), unknown);
    EXPECT_EQ(
        fateOfFrames([](auto stream) { return repeated(http2Frame(6, 0, 0, "12345678"), 50'000) + createdOn(stream); }),
        isLibcurl8() ? unknown : sent);
    for (std::uint32_t code = 0; code <= 14; code++) {
        EXPECT_EQ(fateOfFrames([&](auto stream) { return http2Frame(3, 0, stream, bigEndian(code)); }), unknown)
            << code;
        EXPECT_EQ(fateOfFrames([&](auto stream) {
                      return headers(stream, "201") + data(stream, false) + http2Frame(3, 0, stream, bigEndian(code));
                  }),
                  code == 0 && isLibcurl8() ? sent : unknown)
            << code;
    }
}

TEST_F(HostileServer, goesAway)
{
    EXPECT_EQ(fateOfFrames([](auto stream) { return goAway(0x7fffffff) + createdOn(stream); }), sent);
    EXPECT_EQ(fateOfFrames([](auto stream) { return goAway(stream) + createdOn(stream); }), sent);
    EXPECT_EQ(fateOfFrames([](auto stream) { return createdOn(stream) + goAway(stream); }), sent);
    EXPECT_EQ(fateOfFrames([](auto stream) { return goAway(stream); }), unknown);
    EXPECT_EQ(fateOfFrames([](auto stream) { return goAway(stream - 2) + createdOn(stream); }), unknown);
}

// libcurl 7.88 puts requests on a connection of HTTP/1.1 that is in use, once it has one of HTTP/2 to the same host.
TEST_F(HostileServer, speaksNowHttp1NowHttp2AndEachGetsItsOwnAnswer)
{
    for (const bool http2 : {false, true}) {
        auto& server = serve(
            [](const Received& request) {
                Answer answer = respond(201, request.body);
                answer.delay = request.body == "n=1" ? 300ms : 0ms;
                return answer;
            },
            http2);
        HttpEngine engine(options());
        std::uint64_t id = 0;
        const auto start = [&] { engine.start(post(id + 1, "n=" + std::to_string(id + 1))), id++; };
        start();
        for (const TimePoint end = Clock::now() + patience; server.received().empty() && Clock::now() < end;)
            engine.pump();
        server.speakHttp2(!http2);
        std::map<std::uint64_t, std::string> answers;
        while (answers.size() < 60) {
            while (id < 60 && engine.inFlight() < 6)
                start();
            const Reply reply = wait(engine);
            answers[reply.id] = reply.body;
        }
        for (const auto& [number, body] : answers)
            EXPECT_EQ(body, "n=" + std::to_string(number));
        EXPECT_EQ(server.received().size(), 60u);
    }
}

// A firewall forgets a connection, or the machine behind it is gone: nobody says so, and TCP tries for a quarter of an
// hour.
TEST_F(HostileServer, fallsSilentAndTheNextRequestGoesOverANewConnection)
{
    for (const bool http2 : {false, true}) {
        auto& server = serve(
            [](const Received& request) {
                return request.connection == 1 && request.number > 1 ? misbehave(Answer::Kind::hang) : respond(201);
            },
            http2);
        Options impatient = options();
        impatient.requestTimeout = 300ms;
        HttpEngine engine(impatient);
        EXPECT_EQ(ask(engine, post(1)).status, 201);
        EXPECT_EQ(ask(engine, post(2)).transport, Transport::timed_out);
        EXPECT_EQ(ask(engine, post(3)).status, 201);
        EXPECT_EQ(server.connections(), 2);
    }
}

// One answer that does not come says nothing about the connection while others do.
TEST_F(HostileServer, forgetsOneRequestAndTheOthersGoOnOverItsConnection)
{
    auto& server = serve(
        [](const Received& request) { return request.number == 2 ? misbehave(Answer::Kind::hang) : respond(201); },
        true);
    Options impatient = options();
    impatient.requestTimeout = 500ms;
    HttpEngine engine(impatient);
    EXPECT_EQ(ask(engine, post(1)).status, 201);
    engine.start(post(2));
    for (std::uint64_t id = 3;; id++) {
        engine.start(post(id));
        const Reply reply = wait(engine);
        if (reply.id == 2) {
            EXPECT_EQ(reply.transport, Transport::timed_out);
            break;
        }
        EXPECT_EQ(reply.status, 201);
        std::this_thread::sleep_for(20ms);
    }
    EXPECT_EQ(wait(engine).status, 201);
    EXPECT_EQ(ask(engine, post(1000)).status, 201);
    EXPECT_EQ(server.connections(), 1);
}

TEST_F(HostileServer, resetsConnectionsBeforeARequestCouldBeSent)
{
    for (const bool http2 : {false, true})
        for (const auto phase : {TlsServer::Phase::tcp, TlsServer::Phase::tls}) {
            auto& server = serve([](const Received&) { return respond(201); }, http2);
            server.resetIn(phase);
            HttpEngine engine(options());
            for (std::uint64_t id = 1; id <= 5; id++)
                EXPECT_EQ(ask(engine, post(id)).transport, Transport::unreachable);
            server.resetIn(TlsServer::Phase::none);
            EXPECT_EQ(ask(engine, post(6)).status, 201);
        }
}

TEST_F(HostileServer, namesStrangeTimes)
{
    const std::map<std::string, std::optional<std::chrono::seconds>> pauses = {
        {"7", 7s},
        {"-7", std::nullopt},
        {"1000000000000", isLibcurl8() ? 6h : 1'000'000'000'000s},
        {"1000000000000000000000000000000", std::nullopt},
        {"Fri, 31 Dec 1999 23:59:59 GMT", std::nullopt},
        {"soon", std::nullopt}};
    const std::map<std::string, std::int64_t> dates = {{"Fri, 31 Dec 1999 23:59:59 GMT", 946'684'799},
                                                       {"Fri, 31 Dec 1900 23:59:59 GMT", 0},
                                                       {"Fri, 31 Dec 300000 23:59:59 GMT", 0},
                                                       {"Fri, 31 Dec 2147483647 23:59:59 GMT", 0},
                                                       {"yesterday", 0}};
    serve([](const Received& request) {
        Answer answer = respond(429);
        answer.headers = request.body + "\r\n";
        return answer;
    });
    HttpEngine engine(options());
    for (const auto& [said, meant] : pauses)
        EXPECT_EQ(ask(engine, post(1, "Retry-After: " + said)).retryAfter, meant) << said;
    for (const auto& [said, meant] : dates)
        EXPECT_EQ(ask(engine, post(1, "Date: " + said)).date, meant) << said;
    const Reply silent = ask(engine, post(1, "X: y"));
    EXPECT_FALSE(silent.retryAfter) << "of another answer";
    EXPECT_EQ(silent.date, 0) << "of another answer";
}

// What it says is no answer of Twilio's, whatever it looks like.
TEST_F(HostileServer, isAProxy)
{
    for (const char* said :
         {"HTTP/1.1 407 Authenticate\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n",
          "HTTP/1.1 429 Slow\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n",
          "HTTP/1.1 201 Created\r\nContent-Length: 13\r\n\r\n{\"sid\":\"SM1\"}",
          "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 13\r\n\r\n{\"sid\":\"SM1\"}",
          "garbage\r\n\r\n", ""}) {
        const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
        ASSERT_EQ(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
        ASSERT_EQ(::listen(listener, 10), 0);
        std::thread proxy([&] {
            const int client = ::accept(listener, nullptr, nullptr);
            char bytes[1024];
            if (::recv(client, bytes, sizeof bytes, 0) > 0 && ::send(client, said, std::strlen(said), MSG_NOSIGNAL) > 0)
                (void)::recv(client, bytes, sizeof bytes, 0);
            ::close(client);
        });
        Options proxied = options();
        proxied.proxy = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
        HttpEngine engine(proxied);
        const Reply reply = ask(engine, post(1));
        EXPECT_EQ(reply.transport, Transport::unreachable) << said;
        EXPECT_EQ(reply.status, 0) << said;
        EXPECT_FALSE(reply.retryAfter) << said;
        ::shutdown(listener, SHUT_RDWR);
        proxy.join();
        ::close(listener);
    }
}

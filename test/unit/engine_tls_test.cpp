// Who is on the other end is checked always.
#include "engine_fixture.hpp"

#include <filesystem>

using namespace std::chrono_literals;
using namespace twilio;
using namespace twilio::test;

namespace {

Answer created(const Received&)
{
    return respond(201);
}

} // namespace

TEST_F(EngineTest, refusesAnUnknownAuthority)
{
    auto& server = serve(created);
    const Authority other("another authority");
    Options wrong = options();
    wrong.caFile = other.file();
    HttpEngine engine(wrong);
    const Reply reply = ask(engine, post(1));
    EXPECT_EQ(reply.transport, Transport::unreachable);
    EXPECT_NE(reply.error.find("certificate"), std::string::npos) << reply.error;
    EXPECT_TRUE(server.received().empty());
}

TEST_F(EngineTest, trustsTheSystemsAuthoritiesByDefault)
{
    auto& server = serve(created);
    Options standard = options();
    standard.caFile.clear();
    HttpEngine engine(standard);
    const Reply reply = ask(engine, post(1));
    EXPECT_EQ(reply.transport, Transport::unreachable);
    EXPECT_NE(reply.error.find("certificate"), std::string::npos) << reply.error;
    EXPECT_TRUE(server.received().empty());
}

TEST_F(EngineTest, refusesAnotherHostsCertificate)
{
    for (const char* names : {"DNS:evil.example.com", "DNS:twilio.com", "IP:127.0.0.1", "DNS:*.api.twilio.com"}) {
        auto& server = serve(created, false, names);
        HttpEngine engine(options());
        EXPECT_EQ(ask(engine, post(1)).transport, Transport::unreachable) << names;
        EXPECT_TRUE(server.received().empty());
    }
    serve(created, false, "DNS:*.twilio.com");
    HttpEngine engine(options());
    EXPECT_EQ(ask(engine, post(1)).status, 201);
}

TEST_F(EngineTest, refusesAMissingCaFile)
{
    auto& server = serve(created);
    Options missing = options();
    missing.caFile = "/nonexistent/ca.pem";
    HttpEngine engine(missing);
    EXPECT_EQ(ask(engine, post(1)).transport, Transport::unreachable);
    EXPECT_TRUE(server.received().empty());
}

TEST_F(EngineTest, doesNotReuseAConnectionThatAnotherAuthorityVouchedFor)
{
    auto& server = serve(created);
    HttpEngine engine(options());
    ASSERT_EQ(ask(engine, post(1)).status, 201);
    const Authority other("another authority");
    Options wrong = options();
    wrong.caFile = other.file();
    engine.configure(wrong);
    EXPECT_EQ(ask(engine, post(2)).transport, Transport::unreachable);
    engine.configure(options());
    EXPECT_EQ(ask(engine, post(3)).status, 201);
    EXPECT_EQ(server.received().size(), 2u);
}

TEST_F(EngineTest, readsAReplacedCaFileAnew)
{
    auto& server = serve(created);
    const Authority other("another authority");
    const std::string right = authority_.file() + ".right";
    std::filesystem::copy_file(authority_.file(), right);
    HttpEngine engine(options());
    ASSERT_EQ(ask(engine, post(1)).status, 201);

    std::filesystem::copy_file(other.file(), authority_.file(), std::filesystem::copy_options::overwrite_existing);
    engine.configure(options());
    EXPECT_EQ(ask(engine, post(2)).transport, Transport::unreachable);
    EXPECT_EQ(server.received().size(), 1u);

    std::filesystem::rename(right, authority_.file());
    engine.configure(options());
    EXPECT_EQ(ask(engine, post(3)).status, 201);
    engine.configure(options());
    EXPECT_EQ(ask(engine, post(4)).status, 201);
    EXPECT_EQ(server.connections(), 3) << "what was not replaced keeps its connections";
}

TEST_F(EngineTest, goesToTheNewPlaceAfterAChange)
{
    serve(created);
    const auto first = std::move(server_);
    auto& second = serve(created);
    Options before = options();
    before.connectTo = first->place();
    HttpEngine engine(before);
    ASSERT_EQ(ask(engine, post(1)).status, 201);
    engine.configure(options());
    ASSERT_EQ(ask(engine, post(2)).status, 201);
    EXPECT_EQ(first->received().size(), 1u);
    EXPECT_EQ(second.received().size(), 1u);
}

// Parsing the system's certificates takes some 26 ms; they must be parsed once, not for every connection.
TEST_F(EngineTest, parsesTheAuthoritiesOnce)
{
    serve(created);
    Options standard = options();
    standard.caFile.clear();
    HttpEngine engine(standard);
    ask(engine, post(0));
    constexpr int count = 20;
    timespec begin{};
    timespec end{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
    for (std::uint64_t id = 1; id <= count; id++)
        ask(engine, post(id)); // refused after the handshake, so every one makes a connection
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    const double millis =
        static_cast<double>(end.tv_sec - begin.tv_sec) * 1e3 + static_cast<double>(end.tv_nsec - begin.tv_nsec) / 1e6;
    EXPECT_EQ(server_->connections(), count + 1);
    RecordProperty("millis_per_connection", std::to_string(millis / count));
#if !defined(__SANITIZE_ADDRESS__)
    EXPECT_LT(millis / count, 12);
#endif
}

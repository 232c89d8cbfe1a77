// An engine that has been told to forget holds no token, neither as it was given
// nor as it went over the wire. The server runs in a process of its own, because
// it would hold one.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include <malloc.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base64.hpp"
#include "engine_fixture.hpp"
#include "orders.hpp"
#include "sending_thread.hpp"
#include "wiped_memory.hpp"

using namespace std::chrono_literals;
using namespace twilio;
using namespace twilio::test;

namespace {

constexpr char mask = 0x55;
constexpr std::size_t tokenSize = 33; // a multiple of three, so that base64 of it stands by itself
constexpr std::size_t pageSize = 4096;

// Made anew whenever it is needed, and kept only masked.
void makeToken(char* into)
{
    for (std::size_t i = 0; i < tokenSize; i++)
        into[i] = static_cast<char>("0123456789abcdef"[(i * 7 + i * i * 3 + 5) % 16]);
}

std::string maskedToken()
{
    Secret token(tokenSize);
    makeToken(token.data());
    Secret copy(tokenSize);
    for (std::size_t i = 0; i < tokenSize; i++)
        copy.data()[i] = static_cast<char>(token.data()[i] ^ mask);
    return std::string(copy.view());
}

std::string maskedBase64()
{
    Secret token(tokenSize);
    makeToken(token.data());
    Secret text(base64Size(tokenSize));
    encodeBase64(token.view(), text.data());
    for (std::size_t i = 0; i < text.size(); i++)
        text.data()[i] = static_cast<char>(text.data()[i] ^ mask);
    return std::string(text.view());
}

std::size_t count(const char* begin, const char* end, const std::string& maskedNeedle)
{
    std::size_t found = 0;
    const std::size_t size = 16; // the beginning will do
    const char first = static_cast<char>(maskedNeedle[0] ^ mask);
    for (const char* at = begin; end - at >= static_cast<std::ptrdiff_t>(size); at++) {
        at = static_cast<const char*>(std::memchr(at, first, static_cast<std::size_t>(end - at) - size + 1));
        if (at == nullptr)
            break;
        std::size_t same = 0;
        while (same < size && static_cast<char>(at[same] ^ mask) == maskedNeedle[same])
            same++;
        found += same == size ? 1 : 0;
    }
    return found;
}

// Of memory that is mapped for reading, the pages that guard a stack cannot be read (glibc 2.42, MADV_GUARD_INSTALL).
bool isReadable(const char* page)
{
    char byte = 0;
    const ::iovec into{&byte, 1};
    const ::iovec from{const_cast<char*>(page), 1};
    return ::process_vm_readv(::getpid(), &into, 1, &from, 1, 0) == 1;
}

// In all of the memory that this process can write.
std::size_t occurrences(const std::string& maskedNeedle)
{
    std::size_t found = 0;
    FILE* maps = std::fopen("/proc/self/maps", "r");
    char line[512];
    while (std::fgets(line, sizeof line, maps) != nullptr) {
        unsigned long first = 0;
        unsigned long last = 0;
        char rights[5] = {};
        if (std::sscanf(line, "%lx-%lx %4s", &first, &last, rights) != 3 || rights[0] != 'r' || rights[1] != 'w')
            continue;
        const auto* begin = reinterpret_cast<const char*>(first);
        for (const char* page = begin; page <= reinterpret_cast<const char*>(last); page += pageSize)
            if (page == reinterpret_cast<const char*>(last) || !isReadable(page)) {
                found += count(begin, page, maskedNeedle);
                begin = page + pageSize;
            }
    }
    std::fclose(maps);
    return found;
}

// Answers like Twilio's account resource, which tells the token in clear.
class ServerProcess {
public:
    ServerProcess(const Authority& authority, bool http2)
    {
        int ends[2];
        EXPECT_EQ(::pipe(ends), 0);
        child_ = ::fork();
        if (child_ == 0) {
            const TlsServer server(authority.issue("DNS:api.twilio.com"), http2, [](const Received&) {
                char token[tokenSize + 1] = {};
                makeToken(token);
                return respond(200, R"({"sid":"AC1","auth_token":")" + std::string(token) + R"("})");
            });
            const int port = server.port();
            EXPECT_EQ(::write(ends[1], &port, sizeof port), static_cast<ssize_t>(sizeof port));
            for (;;)
                ::pause();
        }
        EXPECT_EQ(::read(ends[0], &port_, sizeof port_), static_cast<ssize_t>(sizeof port_));
        ::close(ends[0]);
        ::close(ends[1]);
    }
    ~ServerProcess()
    {
        ::kill(child_, SIGKILL);
        ::waitpid(child_, nullptr, 0);
    }
    std::string place() const { return "127.0.0.1:" + std::to_string(port_); }

private:
    pid_t child_ = 0;
    int port_ = 0;
};

} // namespace

class Forgets : public EngineTest, public testing::WithParamInterface<bool> {
protected:
    void SetUp() override
    {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
        GTEST_SKIP() << "the sanitizer keeps freed memory as it was";
#endif
        // What the search itself must not be blind to.
        {
            Secret token(tokenSize);
            makeToken(token.data());
            ASSERT_GE(occurrences(needle_), 1u);
        }
        wipeUnusedStack();
        ASSERT_EQ(occurrences(needle_), 0u);
    }

    Options there() const
    {
        Options there = options();
        there.connectTo = twilio_.place();
        return there;
    }

    static Request withToken(std::uint64_t id)
    {
        Request request = post(id);
        request.username = "AC00000000000000000000000000000001x"; // with the colon 36 = 12 * 3 characters
        request.password = Secret(tokenSize);
        makeToken(request.password.data());
        return request;
    }

    void expectNothingLeft()
    {
        ::malloc_trim(0);
        EXPECT_EQ(occurrences(needle_), 0u) << "the token, as it is";
        EXPECT_EQ(occurrences(wireNeedle_), 0u) << "the token in base64, as it is sent";
    }

private:
    const ServerProcess twilio_{authority_, GetParam()};
    const std::string needle_ = maskedToken();
    const std::string wireNeedle_ = maskedBase64();
};

INSTANTIATE_TEST_SUITE_P(Http, Forgets, testing::Bool(),
                         [](const auto& info) { return info.param ? "http2" : "http1"; });

TEST_P(Forgets, everySecret)
{
    HttpEngine engine(there());
    for (std::uint64_t round = 0; round < 5; round++) {
        for (std::uint64_t id = 1; id <= 20; id++)
            engine.start(withToken(id));
        for (int i = 0; i < 20; i++) {
            Reply reply = wait(engine);
            ASSERT_EQ(reply.status, 200) << reply.error;
            ASSERT_NE(reply.body.find("auth_token"), std::string::npos);
            ::explicit_bzero(reply.body.data(), reply.body.size()); // the owner blanks it
        }
    }
    engine.forget();
    expectNothingLeft();
}

// A server takes memory, too, and keeps it long without writing to all of it.
TEST_P(Forgets, alsoWhatOthersHaveTakenOfItsMemory)
{
    constexpr std::size_t blockSize = 8192;
    std::vector<void*> blocks;
    HttpEngine engine(there());
    for (std::uint64_t id = 1; id <= 20; id++) {
        engine.start(withToken(id));
        Reply reply = wait(engine);
        ASSERT_EQ(reply.status, 200) << reply.error;
        ::explicit_bzero(reply.body.data(), reply.body.size());
        if (id % 5 == 0)
            engine.configure(there()); // over other connections from now on
        for (int i = 0; i < 20; i++)
            blocks.push_back(std::malloc(blockSize));
    }
    engine.forget();
    expectNothingLeft();
    std::for_each(blocks.begin(), blocks.end(), std::free);
}

TEST_P(Forgets, everySecretOfTheThreadThatSent)
{
    HttpEngine engine(there());
    Sender sender(engine);
    sender.allow(20);
    SendingThread thread(sender);
    readyFor(sender, 20);
    for (std::uint64_t id = 1; id <= 100; id++)
        sender.add(order(id), withToken(id));
    std::size_t answered = 0;
    for (const TimePoint end = Clock::now() + patience; answered < 100 && Clock::now() < end;) {
        {
            const SendingThread::Loan loan(thread);
            std::this_thread::sleep_for(5ms);
        }
        for (const Sender::Answered& each : sender.takeAnswered()) {
            answered++;
            ASSERT_EQ(each.reply.status, 200) << each.reply.error;
            ASSERT_NE(each.reply.body.find("auth_token"), std::string::npos);
        }
    }
    ASSERT_EQ(answered, 100u);
    engine.forget();
    thread.end();
    expectNothingLeft();
}

// What lies scattered between pieces that are in use is found, too, and in no time.
TEST(WipeFreedMemory, wipesWhatLiesInManyPlaces)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "the sanitizer keeps freed memory as it was";
#endif
    constexpr int count = 100'000;
    constexpr std::size_t place = 32; // behind what the allocator writes into free memory
    const std::string needle = maskedToken();
    const auto scatterAndWipe = [&] {
        std::vector<void*> kept;
        std::vector<void*> freed;
        for (int i = 0; i < count; i++) {
            kept.push_back(std::malloc(160));
            freed.push_back(std::malloc(i % 100 == 0 ? 9000 : 96 + static_cast<std::size_t>(i % 10) * 16));
            makeToken(static_cast<char*>(freed.back()) + place);
        }
        std::for_each(freed.begin(), freed.end(), std::free);
        EXPECT_GE(occurrences(needle), std::size_t{count} / 2);
        const TimePoint begin = Clock::now();
        wipeFreedMemory();
        EXPECT_LT(Clock::now() - begin, 1s);
        wipeUnusedStack(); // where this test has made its tokens
        EXPECT_EQ(occurrences(needle), 0u);
        std::for_each(kept.begin(), kept.end(), std::free);
    };
    scatterAndWipe();
    std::thread(scatterAndWipe).join();
}

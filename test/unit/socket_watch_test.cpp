#include "socket_watch.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

using twilio::SocketWatch;

namespace {

// A watched socket and the one at its other end.
class WatchedSocket : public testing::Test {
protected:
    WatchedSocket()
    {
        const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        auto* const generic = reinterpret_cast<sockaddr*>(&address);
        EXPECT_EQ(::bind(listener, generic, size), 0);
        EXPECT_EQ(::listen(listener, 1), 0);
        EXPECT_EQ(::getsockname(listener, generic, &size), 0);
        socket_ = watch_.open(AF_INET, SOCK_STREAM, 0);
        EXPECT_EQ(::connect(socket_, generic, size), 0);
        other_ = ::accept(listener, nullptr, nullptr);
        ::close(listener);
    }
    ~WatchedSocket() override
    {
        watch_.close(socket_);
        ::close(other_);
    }

    void otherSpeaks() const { EXPECT_EQ(::write(other_, "x", 1), 1); }
    bool isDescriptorReady() const
    {
        pollfd descriptor{watch_.descriptor(), POLLIN, 0};
        return ::poll(&descriptor, 1, 200) == 1;
    }
    bool isHungUp() const
    {
        pollfd descriptor{socket_, POLLIN, 0};
        return ::poll(&descriptor, 1, 0) == 1 && (descriptor.revents & POLLHUP) != 0;
    }

    SocketWatch watch_;
    int socket_ = -1;
    int other_ = -1;
};

} // namespace

TEST_F(WatchedSocket, isClosedOnExec)
{
    EXPECT_NE(::fcntl(socket_, F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_NE(::fcntl(watch_.descriptor(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(WatchedSocket, tellsWhatItIsAskedFor)
{
    ASSERT_TRUE(watch_.watch(socket_, true, false));
    EXPECT_TRUE(watch_.look().empty());
    otherSpeaks();
    ASSERT_TRUE(isDescriptorReady());
    ASSERT_EQ(watch_.look().size(), 1u);
    EXPECT_EQ(watch_.look()[0].socket, socket_);
    EXPECT_TRUE(watch_.look()[0].isReadable);
    EXPECT_FALSE(watch_.look()[0].isWritable);
    ASSERT_TRUE(watch_.watch(socket_, false, true));
    EXPECT_TRUE(watch_.look()[0].isWritable);
}

TEST_F(WatchedSocket, isEndedWhenItMovesAtRest)
{
    watch_.watch(socket_, true, false);
    watch_.rest(socket_);
    EXPECT_TRUE(watch_.look().empty());
    EXPECT_FALSE(isHungUp());
    otherSpeaks();
    ASSERT_TRUE(isDescriptorReady());
    EXPECT_TRUE(watch_.look().empty());
    EXPECT_TRUE(isHungUp());
    EXPECT_FALSE(isDescriptorReady());
}

TEST_F(WatchedSocket, isEndedWhenTheOtherSideCloses)
{
    watch_.watch(socket_, true, false);
    watch_.rest(socket_);
    ::shutdown(other_, SHUT_WR);
    ASSERT_TRUE(isDescriptorReady());
    EXPECT_TRUE(watch_.look().empty());
    EXPECT_TRUE(isHungUp());
}

TEST_F(WatchedSocket, mayMoveAtRestWhenTolerated)
{
    watch_.watch(socket_, true, false);
    watch_.rest(socket_);
    watch_.tolerate(socket_);
    otherSpeaks();
    EXPECT_FALSE(isDescriptorReady());
    EXPECT_FALSE(isHungUp());
    ASSERT_TRUE(watch_.watch(socket_, true, false));
    EXPECT_EQ(watch_.look().size(), 1u);
}

// The last of many requests on a connection must not take it away from the others.
TEST_F(WatchedSocket, staysWatchedWhileItIsBusy)
{
    watch_.watch(socket_, true, false);
    watch_.tolerate(socket_);
    otherSpeaks();
    EXPECT_TRUE(isDescriptorReady());
    EXPECT_EQ(watch_.look().size(), 1u);
}

// Each socket carries in its epoll entry whether it rests.
#include "socket_watch.hpp"

#include <array>
#include <cerrno>
#include <cstdint>
#include <new>
#include <system_error>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

constexpr int eventsPerLook = 256;
constexpr std::uint64_t resting = std::uint64_t(1) << 32;

bool control(int epoll, int socket, std::uint32_t events, std::uint64_t mark) noexcept
{
    epoll_event event{};
    event.events = events;
    event.data.u64 = static_cast<std::uint32_t>(socket) | mark;
    if (::epoll_ctl(epoll, EPOLL_CTL_MOD, socket, &event) == 0)
        return true;
    return errno == ENOENT && ::epoll_ctl(epoll, EPOLL_CTL_ADD, socket, &event) == 0;
}

} // namespace

SocketWatch::SocketWatch() : epoll_(::epoll_create1(EPOLL_CLOEXEC))
{
    if (epoll_ < 0)
        throw std::system_error(errno, std::generic_category(), "epoll_create1");
    events_.reserve(eventsPerLook);
}

SocketWatch::~SocketWatch()
{
    ::close(epoll_);
}

int SocketWatch::open(int family, int type, int protocol) noexcept
{
    const int socket = ::socket(family, type | SOCK_CLOEXEC, protocol);
    if (socket < 0)
        return -1;
    try {
        own_.emplace(socket, false);
    } catch (const std::bad_alloc&) {
        ::close(socket);
        return -1;
    }
    return socket;
}

void SocketWatch::close(int socket) noexcept
{
    own_.erase(socket);
    ::close(socket);
}

bool SocketWatch::watch(int socket, bool forReading, bool forWriting) noexcept
{
    if (const auto own = own_.find(socket); own != own_.end())
        own->second = false;
    return control(epoll_, socket, (forReading ? EPOLLIN : 0u) | (forWriting ? EPOLLOUT : 0u), 0);
}

void SocketWatch::rest(int socket) noexcept
{
    const auto own = own_.find(socket);
    if (own == own_.end())
        return forget(socket);
    own->second = true;
    control(epoll_, socket, EPOLLIN | EPOLLRDHUP, resting);
}

void SocketWatch::tolerate(int socket) noexcept
{
    if (const auto own = own_.find(socket); own != own_.end() && own->second)
        forget(socket);
}

void SocketWatch::forget(int socket) const noexcept
{
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, socket, nullptr);
}

const std::vector<SocketWatch::Event>& SocketWatch::look()
{
    std::array<epoll_event, eventsPerLook> found{};
    const int count = ::epoll_wait(epoll_, found.data(), eventsPerLook, 0);
    events_.clear();
    for (int i = 0; i < count; i++) {
        const epoll_event& event = found[static_cast<std::size_t>(i)];
        const int socket = static_cast<int>(event.data.u64 & UINT32_MAX);
        if ((event.data.u64 & resting) == 0) {
            events_.push_back({socket, (event.events & EPOLLIN) != 0, (event.events & EPOLLOUT) != 0,
                               (event.events & (EPOLLERR | EPOLLHUP)) != 0});
        } else {
            forget(socket);
            hangUp(socket);
        }
    }
    return events_;
}

bool SocketWatch::isHungUp(int socket) noexcept
{
    pollfd state{socket, POLLRDHUP, 0};
    return ::poll(&state, 1, 0) == 1;
}

std::chrono::milliseconds SocketWatch::silence(int socket) noexcept
{
    tcp_info info{};
    socklen_t size = sizeof(info);
    if (::getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
        return std::chrono::milliseconds::max();
    return std::chrono::milliseconds(info.tcpi_last_data_recv);
}

void SocketWatch::setCorks(int value) const noexcept
{
    for (const auto& [socket, isResting] : own_)
        ::setsockopt(socket, IPPROTO_TCP, TCP_CORK, &value, sizeof(value));
}

// Not closed, for the descriptor is curl's; but nothing is left to read, and so it looks as dead as it is.
void SocketWatch::hangUp(int socket) noexcept
{
    ::shutdown(socket, SHUT_RDWR);
    std::array<char, 4096> unread;
    while (::recv(socket, unread.data(), unread.size(), MSG_DONTWAIT) > 0) {
    }
}

} // namespace twilio

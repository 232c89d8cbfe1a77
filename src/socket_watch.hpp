// The sockets of the engine, and the only place that knows epoll.
//
// While a request uses a connection, curl decides what is watched. Between two
// requests the engine watches it itself: when the other side closes an idle
// connection, it says so first in TLS, which libcurl 7.88 takes for a sign of
// life. The next request would be written into the closing connection, and
// nobody could tell whether it arrived. So whatever moves on an idle HTTP/1.1
// connection ends it at once; curl then finds it dead and takes another.
#pragma once

#include <chrono>
#include <unordered_map>
#include <vector>

#include <sys/socket.h>

namespace twilio {

class SocketWatch {
public:
    struct Event {
        int socket;
        bool isReadable;
        bool isWritable;
        bool isBroken;
    };

    SocketWatch();
    ~SocketWatch();
    SocketWatch(const SocketWatch&) = delete;
    SocketWatch& operator=(const SocketWatch&) = delete;

    int descriptor() const { return epoll_; }

    int open(int family, int type, int protocol) noexcept; // -1: failed
    void close(int socket) noexcept;

    // Of curl's sockets, also those that open() did not make. False: the system refuses.
    bool watch(int socket, bool forReading, bool forWriting) noexcept;

    // No request uses it any more.
    void rest(int socket) noexcept;

    // A resting connection of HTTP/2 is not ended when it moves: there the other side may well have something to say,
    // and curl looks before it uses it again.
    void tolerate(int socket) noexcept;

    // Whether the other side has closed the connection, or it is broken.
    static bool isHungUp(int socket) noexcept;

    // For how long nothing has come over it.
    static std::chrono::milliseconds silence(int socket) noexcept;

    // What has happened, without waiting. Ends idle connections that moved.
    const std::vector<Event>& look();

    // While it lives, what is written leaves in full packets only, the rest when it ends: many small requests on one
    // connection of HTTP/2 are one walk through the kernel's network instead of two each.
    class Cork {
    public:
        explicit Cork(const SocketWatch& watch) noexcept : watch_(watch) { watch_.setCorks(1); }
        ~Cork() { watch_.setCorks(0); }
        Cork(const Cork&) = delete;
        Cork& operator=(const Cork&) = delete;

    private:
        const SocketWatch& watch_;
    };

private:
    void setCorks(int value) const noexcept;
    void forget(int socket) const noexcept;
    static void hangUp(int socket) noexcept;

    int epoll_;
    std::unordered_map<int, bool> own_; // whether it rests
    std::vector<Event> events_;
};

} // namespace twilio

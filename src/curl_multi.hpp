// curl's multi interface: transfers that run side by side, their sockets and their time.
//
// curl says which sockets it wants watched (onSocket) and when it wants to be
// called at the latest (onTimer); pump() tells it what has happened. The timer is
// a plain deadline: no timerfd, no wake-up that nobody asked for.
#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include <curl/curl.h>

#include "clock.hpp"
#include "recall.hpp"
#include "socket_watch.hpp"

namespace twilio {

class CurlMulti {
public:
    CurlMulti() { open(); } // throws std::bad_alloc
    CurlMulti(const CurlMulti&) = delete;
    CurlMulti& operator=(const CurlMulti&) = delete;

    SocketWatch& sockets() { return sockets_; }
    const SocketWatch& sockets() const { return sockets_; }

    bool add(CURL* easy) { return curl_multi_add_handle(multi_.get(), easy) == CURLM_OK; }
    void remove(CURL* easy) { curl_multi_remove_handle(multi_.get(), easy); }

    // Moves everything on that can move, without waiting; when recalled, the rest is left to the next call.
    void pump(const Recall& recall);

    struct Done {
        CURL* easy;
        CURLcode result;
    };
    // A transfer that has ended, and is to be removed.
    std::optional<Done> nextDone();

    // By when pump() is to be called if no socket moves before. Nothing: no need.
    const std::optional<TimePoint>& deadline() const { return deadline_; }

    // Ends all connections that belong to it, and forgets the certificates that it has parsed. While transfers are in
    // it, it must not be called.
    void close() { multi_.reset(); }

    // Throws away what came over its connections, where libcurl keeps that.
    void forget();

private:
    struct Cleanup {
        void operator()(CURLM* multi) const noexcept { curl_multi_cleanup(multi); }
    };

    static int onSocket(CURL*, curl_socket_t socket, int what, void* self, void* known) noexcept;
    static int onTimer(CURLM*, long timeout, void* self) noexcept;

    void open();
    void drive(curl_socket_t socket, int events);

    SocketWatch sockets_;
    std::optional<TimePoint> deadline_;
    std::unique_ptr<CURLM, Cleanup> multi_;
};

} // namespace twilio

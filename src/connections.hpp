// The connections that requests share and leave open for those that follow, and when they make room for new ones.
#pragma once

#include <cstddef>
#include <memory>
#include <unordered_map>

#include <curl/curl.h>

namespace twilio {

// Open connections; they close when nobody has the set any more.
class ConnectionSet {
public:
    ConnectionSet(); // throws std::bad_alloc
    ~ConnectionSet() { curl_share_cleanup(share_); }
    ConnectionSet(const ConnectionSet&) = delete;
    ConnectionSet& operator=(const ConnectionSet&) = delete;

    CURLSH* share() const { return share_; }

    // Of a connection that carries one request at a time: whose it was last, null if nobody's.
    CURL* holder(const void* connection) const;
    bool hold(const void* connection, CURL* by) noexcept; // false: memory is short
    void letGo(const void* connection, CURL* by) noexcept;

private:
    CURLSH* share_;
    std::unordered_map<const void*, CURL*> holders_;
};

using Connections = std::shared_ptr<ConnectionSet>;

inline constexpr std::size_t streamsPerConnection = 100; // so that one broken connection leaves few requests in doubt

class KeptConnections {
public:
    KeptConnections() { renew(); }

    const Connections& current() const { return current_; }

    // From now on requests go over new ones. The old ones close when their last request is done.
    void renew();
    void drop() noexcept { current_.reset(); }

    // A request is on its way over them, one of so many.
    void started(std::size_t inFlight);

    // Whether an HTTP/2 server is about to end them.
    bool areWornOut() const;

private:
    Connections current_;
    std::size_t started_ = 0;
    std::size_t mostInFlight_ = 0;
};

} // namespace twilio

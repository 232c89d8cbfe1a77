// The connections that requests share and leave open for those that follow, and when they make room for new ones.
#pragma once

#include <cstddef>
#include <memory>
#include <unordered_set>

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

    // For a request that has a connection to itself. False: another one has it.
    bool take(const void* connection) noexcept;
    void giveBack(const void* connection) noexcept { taken_.erase(connection); }

private:
    CURLSH* share_;
    std::unordered_set<const void*> taken_;
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

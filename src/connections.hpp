// The connections that requests share and leave open for those that follow, and when they make room for new ones.
#pragma once

#include <cstddef>
#include <memory>

#include <curl/curl.h>

namespace twilio {

// A set of open connections; they close when nobody has it any more.
using Connections = std::shared_ptr<CURLSH>;

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

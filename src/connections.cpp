// A set is what curl calls a share.
#include "connections.hpp"

#include <algorithm>
#include <new>

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

// Servers retire an HTTP/2 connection after some number of requests, nginx after 1,000, and refuse what is on its way
// by then. libcurl does not tell that refusal from a loss, so connections are retired before they are.
constexpr std::size_t requestsPerConnection = 800;

} // namespace

ConnectionSet::ConnectionSet() : share_(curl_share_init())
{
    if (share_ == nullptr || curl_share_setopt(share_, CURLSHOPT_SHARE, CURL_LOCK_DATA_CONNECT) != CURLSHE_OK) {
        curl_share_cleanup(share_);
        throw std::bad_alloc();
    }
}

bool ConnectionSet::take(const void* connection) noexcept
{
    try {
        return taken_.insert(connection).second;
    } catch (const std::bad_alloc&) {
        return false;
    }
}

void KeptConnections::renew()
{
    current_ = std::make_shared<ConnectionSet>();
    started_ = mostInFlight_ = 0;
}

void KeptConnections::started(std::size_t inFlight)
{
    started_++;
    mostInFlight_ = std::max(mostInFlight_, inFlight);
}

// Only while all fit on one connection: a change costs more the more requests wait for the new one.
bool KeptConnections::areWornOut() const
{
    return started_ >= requestsPerConnection && mostInFlight_ <= streamsPerConnection;
}

} // namespace twilio

// A set is what curl calls a share.
#include "connections.hpp"

#include <algorithm>
#include <new>
#include <utility>

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

// Servers retire an HTTP/2 connection after some number of requests, nginx after 1,000, and refuse what is on its way
// by then. libcurl does not tell that refusal from a loss, so connections are retired before they are.
constexpr std::size_t requestsPerConnection = 800;

} // namespace

void KeptConnections::renew()
{
    Connections connections(curl_share_init(), [](CURLSH* share) { curl_share_cleanup(share); });
    if (connections == nullptr ||
        curl_share_setopt(connections.get(), CURLSHOPT_SHARE, CURL_LOCK_DATA_CONNECT) != CURLSHE_OK)
        throw std::bad_alloc();
    current_ = std::move(connections);
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

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

CURL* ConnectionSet::holder(const void* connection) const
{
    const auto found = holders_.find(connection);
    return found == holders_.end() ? nullptr : found->second;
}

bool ConnectionSet::hold(const void* connection, CURL* by) noexcept
{
    try {
        holders_.insert_or_assign(connection, by);
        return true;
    } catch (const std::bad_alloc&) {
        return false;
    }
}

void ConnectionSet::letGo(const void* connection, CURL* by) noexcept
{
    if (holder(connection) == by)
        holders_.erase(connection);
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

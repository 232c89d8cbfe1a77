// Orders for the sender, as if they had been claimed.
#pragma once

#include "sender.hpp"
#include "tenants.hpp"

namespace twilio::test {

inline Order order(std::uint64_t id, unsigned user = 1)
{
    Order order;
    order.id = static_cast<std::int64_t>(id);
    order.user = tenant(user);
    order.kind = "message";
    order.attempts = 1;
    return order;
}

// The tenant may have so many requests in flight, and three times as many dealt to it.
inline void readyFor(Sender& sender, int mostInFlight, unsigned user = 1)
{
    const TimePoint now = Clock::now();
    sender.turns().list({{tenant(user), now, 0, 0, mostInFlight}}, now);
    const std::vector<Share> shares = sender.turns().deal(10'000, now);
    sender.turns().claimed(shares, all(shares));
}

} // namespace twilio::test

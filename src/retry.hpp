// How long to wait before a request that Twilio did not accept is made again.
#pragma once

#include <chrono>
#include <optional>

namespace twilio {

// Exponential with full jitter: anything between nothing and 1 s, 2 s, 4 s … up
// to 5 min for attempt 1, 2, 3 … Full jitter, because a tenant's rows are refused
// together and must not come back together. `random01` is in [0, 1).
//
// Retry-After is a floor (an hour at most is believed), and the jitter comes on top.
std::chrono::milliseconds backoff(int attempt, std::optional<std::chrono::seconds> retryAfter, double random01);

// For the jitter: a number in [0, 1), in each process another.
double random01();

} // namespace twilio

// The ceiling doubles with each attempt; where below it the wait ends is chance.
#include "retry.hpp"

#include <algorithm>
#include <random>

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds firstCeiling{1000};
constexpr milliseconds lastCeiling{300'000};
constexpr std::chrono::seconds longestBelieved{3600};

milliseconds ceilingOf(int attempt)
{
    const int doublings = std::clamp(attempt - 1, 0, 20);
    return std::min(firstCeiling * (1 << doublings), lastCeiling);
}

} // namespace

milliseconds backoff(int attempt, std::optional<std::chrono::seconds> retryAfter, double random01)
{
    const auto floor =
        std::clamp(retryAfter.value_or(std::chrono::seconds(0)), std::chrono::seconds(0), longestBelieved);
    const double share = std::clamp(random01, 0.0, 1.0);
    return floor +
           milliseconds(static_cast<milliseconds::rep>(share * static_cast<double>(ceilingOf(attempt).count())));
}

double random01()
{
    thread_local std::minstd_rand engine(std::random_device{}());
    return std::uniform_real_distribution<double>()(engine);
}

} // namespace twilio

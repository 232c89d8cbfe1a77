// Token buckets in fractions of a token, ceilings in fractions of a request, and turns as a list with an index.
#include "pacing.hpp"

#include <algorithm>
#include <cmath>

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

using Seconds = std::chrono::duration<double>;

constexpr auto minute = std::chrono::minutes(1);
constexpr auto volley = std::chrono::seconds(1);
constexpr double loweringFactor = 0.5;

// Buckets are filled in fractions; this much short of a whole token is a whole token.
constexpr double tolerance = 1e-9;

constexpr Seconds longestWait = std::chrono::hours(365 * 24); // a clock does not count much further

} // namespace

std::size_t TenantHash::operator()(const TenantId& id) const noexcept
{
    // UUIDs are random in part, but which part depends on their version: mix all of it.
    std::uint64_t high = 0;
    std::uint64_t low = 0;
    std::memcpy(&high, id.bytes.data(), sizeof high);
    std::memcpy(&low, id.bytes.data() + sizeof high, sizeof low);
    std::uint64_t mixed = (high ^ (low << 31 | low >> 33)) * 0x9E3779B97F4A7C15u;
    mixed ^= mixed >> 29;
    return static_cast<std::size_t>(mixed * 0xBF58476D1CE4E5B9u ^ low);
}

TokenBucket::TokenBucket(double ratePerSecond, double burst, TimePoint now)
    : rate_(ratePerSecond), burst_(std::max(burst, 1.0)), tokens_(burst_), at_(now)
{
}

double TokenBucket::tokensAt(TimePoint now) const
{
    const double elapsed = std::max(0.0, Seconds(now - at_).count());
    return std::min(burst_, tokens_ + elapsed * rate_);
}

bool TokenBucket::take(TimePoint now)
{
    if (rate_ <= 0)
        return true;
    const double tokens = tokensAt(now);
    if (tokens + tolerance < 1)
        return false;
    tokens_ = std::max(0.0, tokens - 1);
    at_ = std::max(at_, now);
    return true;
}

TimePoint TokenBucket::readyAt(TimePoint now) const
{
    if (rate_ <= 0)
        return now;
    const double missing = 1 - tokensAt(now);
    if (missing <= tolerance)
        return now;
    return std::max(now, at_) + std::chrono::ceil<Clock::duration>(std::min(Seconds(missing / rate_), longestWait));
}

bool TokenBucket::isFull(TimePoint now) const
{
    return rate_ <= 0 || tokensAt(now) >= burst_;
}

void TokenBucket::setRate(double ratePerSecond, double burst, TimePoint now)
{
    tokens_ = rate_ <= 0 ? std::max(burst, 1.0) : tokensAt(now);
    at_ = std::max(at_, now);
    rate_ = ratePerSecond;
    burst_ = std::max(burst, 1.0);
}

bool AskQuota::take(const TenantId& tenant, TimePoint now)
{
    if (perMinute_ <= 0)
        return true;
    prune(now);
    return buckets_.try_emplace(tenant, perMinute_ / 60.0, perMinute_, now).first->second.take(now);
}

void AskQuota::setLimit(int perMinute)
{
    if (perMinute != perMinute_)
        buckets_.clear();
    perMinute_ = perMinute;
}

void AskQuota::prune(TimePoint now)
{
    if (now - prunedAt_ < minute)
        return;
    prunedAt_ = now;
    std::erase_if(buckets_, [&](const auto& entry) { return entry.second.isFull(now); });
}

void Aimd::succeeded()
{
    ceiling_ = std::min<double>(maximum_, ceiling_ + 1 / ceiling_);
}

void Aimd::refused(TimePoint now)
{
    if (loweredAt_ && now - *loweredAt_ < volley)
        return;
    loweredAt_ = now;
    ceiling_ = std::max(1.0, std::floor(ceiling_ * loweringFactor));
}

void Aimd::setMaximum(int maximum)
{
    const bool wasAtMaximum = ceiling() >= maximum_;
    maximum_ = std::max(1, maximum);
    ceiling_ = wasAtMaximum ? maximum_ : std::min<double>(ceiling_, maximum_);
}

void Rotation::enter(const TenantId& tenant)
{
    const auto [place, isNew] = places_.try_emplace(tenant);
    if (isNew)
        place->second = queue_.insert(queue_.end(), tenant);
}

void Rotation::leave(const TenantId& tenant)
{
    const auto place = places_.find(tenant);
    if (place == places_.end())
        return;
    queue_.erase(place->second);
    places_.erase(place);
}

std::optional<TenantId> Rotation::deal()
{
    if (queue_.empty())
        return std::nullopt;
    queue_.splice(queue_.end(), queue_, queue_.begin());
    return queue_.back();
}

} // namespace twilio

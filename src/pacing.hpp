// How fast, how many at once and whose turn it is.
//
// All of it is arithmetic on times that are passed in: nothing here waits or looks at a clock.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <list>
#include <optional>
#include <unordered_map>

#include "clock.hpp"

namespace twilio {

// A tenant: the sixteen bytes of a UUID.
struct TenantId {
    std::array<std::uint8_t, 16> bytes{};

    static TenantId from(const void* sixteenBytes)
    {
        TenantId id;
        std::memcpy(id.bytes.data(), sixteenBytes, id.bytes.size());
        return id;
    }
    bool operator==(const TenantId&) const = default;
};

struct TenantHash {
    std::size_t operator()(const TenantId& id) const noexcept;
};

template<typename Value>
using TenantMap = std::unordered_map<TenantId, Value, TenantHash>;

// `burst` at once, then `ratePerSecond`. A rate of 0 or less means no limit.
class TokenBucket {
public:
    TokenBucket(double ratePerSecond, double burst, TimePoint now);

    bool take(TimePoint now);
    void giveBack(int tokens) { tokens_ += tokens; }
    TimePoint readyAt(TimePoint now) const; // when take() will succeed; now, if it would
    bool isFull(TimePoint now) const;
    void setRate(double ratePerSecond, double burst, TimePoint now); // keeps what is left, as far as it fits

private:
    double tokensAt(TimePoint now) const;

    double rate_;
    double burst_;
    double tokens_;
    TimePoint at_;
};

// So many asks per tenant and minute; 0 means no limit. A tenant who has not asked for a minute is forgotten, and all
// are when the limit changes: whoever raises it does so for those who wait.
class AskQuota {
public:
    explicit AskQuota(int perMinute = 0) : perMinute_(perMinute) {}

    bool take(const TenantId& tenant, TimePoint now);
    void setLimit(int perMinute);
    std::size_t size() const { return buckets_.size(); }

private:
    void prune(TimePoint now);

    int perMinute_;
    TimePoint prunedAt_{};
    TenantMap<TokenBucket> buckets_;
};

// The number of requests that may be in flight for one tenant: halved when Twilio says 429, raised by about one
// per ceiling's worth of successes. A volley of 429s counts once, because the requests of one volley are refused
// together.
class Aimd {
public:
    explicit Aimd(int maximum) : maximum_(maximum < 1 ? 1 : maximum), ceiling_(maximum_) {}

    int ceiling() const { return static_cast<int>(ceiling_); }
    void succeeded();
    void refused(TimePoint now);
    void setMaximum(int maximum);

private:
    int maximum_;
    double ceiling_;
    std::optional<TimePoint> loweredAt_;
};

// Deals slots to those who wait, in turn, each step in constant time.
class Rotation {
public:
    void enter(const TenantId& tenant); // joins at the end; no effect on one who is in already
    void leave(const TenantId& tenant);
    std::optional<TenantId> deal(); // whose turn it is; goes to the end
    bool contains(const TenantId& tenant) const { return places_.contains(tenant); }
    const std::list<TenantId>& members() const { return queue_; } // the next one first
    bool empty() const { return queue_.empty(); }
    std::size_t size() const { return queue_.size(); }

private:
    std::list<TenantId> queue_;
    TenantMap<std::list<TenantId>::iterator> places_;
};

} // namespace twilio

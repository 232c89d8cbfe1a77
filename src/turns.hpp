// Whose order goes next: tenants in turn, each below its ceiling of requests in
// flight and within its pace. One tenant's backlog delays nobody else.
//
// Counts per tenant: dealt slots become claimed orders (ready), then requests in
// flight. Up to openPerSlot times the ceiling may be ready or in flight, so that a
// freed slot is filled at once and a claim is worth its commit.
#pragma once

#include <memory>
#include <vector>

#include "pacing.hpp"
#include "reply.hpp"

namespace twilio {

inline constexpr int openPerSlot = 3; // most_claimed() in sql/orders.sql says the same

// A tenant with orders, as SQL lists it.
struct Waiting {
    TenantId user;
    TimePoint nextDue{};       // TimePoint::max(): nothing is queued
    std::int64_t dueSince = 0; // the same in SQL's terms: it has nothing queued that was due before
    double ratePerSecond = 0;  // 0: no limit
    int maxInFlight = 1;
};

struct Share {
    TenantId user;
    int count = 0;
    std::int64_t dueSince = 0;
};

class Turns {
public:
    // The whole list; who is not on it has nothing to send now or later, or may not.
    void list(const std::vector<Waiting>& waiting, TimePoint now);

    // Deals up to `free` slots one by one.
    std::vector<Share> deal(std::size_t free, TimePoint now);

    // What became of the shares: `got` orders per tenant. True when somebody got
    // less than dealt, so has nothing more that is due now.
    bool claimed(const std::vector<Share>& shares, const TenantMap<int>& got);

    bool mayStart(const TenantId& user) const; // below its ceiling of requests in flight
    void started(const TenantId& user);        // a ready order is in flight now
    void released(const TenantId& user);       // a ready order was given back
    void finished(const TenantId& user);
    void succeeded(const TenantId& user);
    void slowDown(const TenantId& user, TimePoint now); // 429

    // Twilio refuses the account: it is out of the turn until it is listed again.
    void refuse(const TenantId& user, Refusal refusal);
    const Refusal* refusal(const TenantId& user) const;
    void passOver(const TenantId& user); // the same, but what is ready may start
    bool isListed(const TenantId& user) const;

    bool mayDeal() const { return !rotation_.empty() && !allServed_; }
    bool isWorthAClaim() const;                    // somebody whose turn it is has little left that could be started
    TimePoint nextDue() const { return nextDue_; } // when list() is to be called again at the latest
    TimePoint paceAllows() const { return paceAllows_; } // when deal() is
    void forgetIdle();

private:
    struct Tenant {
        Tenant(const Waiting& waiting, TimePoint now)
            : ceiling(waiting.maxInFlight), bucket(waiting.ratePerSecond, burst(waiting.ratePerSecond), now)
        {
        }
        static double burst(double rate) { return rate < 10 ? 1 : rate / 10; }
        int open() const { return ready + inFlight; }

        Aimd ceiling;
        TokenBucket bucket;
        std::int64_t dueSince = 0;
        int ready = 0;
        int inFlight = 0;
        bool listed = false;
        bool listedAsDue = false; // and nothing claimed since
        bool gotNothing = false;  // when it was
        TimePoint lockedUntil{};
        std::optional<Refusal> refused;
    };

    TenantMap<std::unique_ptr<Tenant>> tenants_;
    Rotation rotation_; // tenants that may have something due
    TimePoint nextDue_ = TimePoint::max();
    TimePoint paceAllows_ = TimePoint::max();
    TimePoint listedAt_{};
    bool allServed_ = false; // nobody in the rotation may have more at present
};

} // namespace twilio

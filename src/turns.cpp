// Arithmetic of turns: no clock, no SQL.
#include "turns.hpp"

#include <algorithm>
#include <utility>

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

// How long a tenant whose orders somebody has locked is passed over.
constexpr std::chrono::milliseconds whileLocked{200};

} // namespace

void Turns::list(const std::vector<Waiting>& waiting, TimePoint now)
{
    nextDue_ = TimePoint::max();
    auto const listedBefore = std::exchange(listedAt_, now);
    allServed_ = false;
    for (auto& [user, tenant] : tenants_)
        tenant->listed = false;
    for (const Waiting& each : waiting) {
        auto& slot = tenants_[each.user];
        if (slot == nullptr)
            slot = std::make_unique<Tenant>(each, now);
        slot->listed = true;
        if (each.nextDue == TimePoint::max())
            rotation_.leave(each.user);
        else
            slot->refused.reset();
        // A transaction that is open has locked what could not be claimed. What had nothing to send is gone.
        if (std::exchange(slot->gotNothing, false) && slot->dueSince == each.dueSince)
            slot->lockedUntil = listedBefore + whileLocked;
        slot->dueSince = each.dueSince;
        slot->ceiling.setMaximum(each.maxInFlight);
        slot->bucket.setRate(each.ratePerSecond, Tenant::burst(each.ratePerSecond), now);
        slot->listedAsDue = each.nextDue <= now;
        if (TimePoint const due = std::max(each.nextDue, slot->lockedUntil); due <= now)
            rotation_.enter(each.user);
        else
            nextDue_ = std::min(nextDue_, due);
    }
    for (const auto& [user, tenant] : tenants_)
        if (!tenant->listed)
            rotation_.leave(user);
}

std::vector<Share> Turns::deal(std::size_t free, TimePoint now)
{
    TenantMap<int> dealt;
    paceAllows_ = TimePoint::max();
    std::size_t passed = 0; // in a row: when all have passed, nobody may have more
    while (free > 0 && passed < rotation_.size()) {
        TenantId const user = *rotation_.deal();
        Tenant& tenant = *tenants_.at(user);
        int const open = tenant.open() + dealt[user];
        if (open >= std::int64_t{openPerSlot} * tenant.ceiling.ceiling()) {
            passed++;
        } else if (!tenant.bucket.take(now)) {
            passed++;
            paceAllows_ = std::min(paceAllows_, tenant.bucket.readyAt(now));
        } else {
            passed = 0;
            free--;
            dealt[user]++;
        }
    }
    std::vector<Share> shares;
    for (const auto& [user, count] : dealt)
        if (count > 0)
            shares.push_back({user, count, tenants_.at(user)->dueSince});
    allServed_ = shares.empty();
    return shares;
}

// Half of what may be ready, or less, is as much as one in flight each. Who has more waits for the others.
bool Turns::isWorthAClaim() const
{
    auto const needsMore = [this](const TenantId& user) {
        const Tenant& tenant = *tenants_.at(user);
        return tenant.open() <= (openPerSlot - 1) * tenant.ceiling.ceiling();
    };
    return mayDeal() && std::any_of(rotation_.members().begin(), rotation_.members().end(), needsMore);
}

bool Turns::claimed(const std::vector<Share>& shares, const TenantMap<int>& got)
{
    bool drained = false;
    for (const Share& share : shares) {
        auto const found = got.find(share.user);
        int const count = found == got.end() ? 0 : found->second;
        Tenant& tenant = *tenants_.at(share.user);
        tenant.ready += count;
        tenant.gotNothing = std::exchange(tenant.listedAsDue, false) && count == 0;
        if (count < share.count) {
            tenant.bucket.giveBack(share.count - count);
            rotation_.leave(share.user);
            drained = true;
        }
    }
    return drained;
}

bool Turns::mayStart(const TenantId& user) const
{
    const Tenant& tenant = *tenants_.at(user);
    return tenant.inFlight < tenant.ceiling.ceiling();
}

void Turns::started(const TenantId& user)
{
    Tenant& tenant = *tenants_.at(user);
    tenant.ready--;
    tenant.inFlight++;
}

void Turns::released(const TenantId& user)
{
    tenants_.at(user)->ready--;
    allServed_ = false;
}

void Turns::finished(const TenantId& user)
{
    tenants_.at(user)->inFlight--;
    allServed_ = false;
}

void Turns::succeeded(const TenantId& user)
{
    tenants_.at(user)->ceiling.succeeded();
}

void Turns::slowDown(const TenantId& user, TimePoint now)
{
    tenants_.at(user)->ceiling.refused(now);
}

void Turns::refuse(const TenantId& user, Refusal refusal)
{
    tenants_.at(user)->refused = std::move(refusal);
    rotation_.leave(user);
}

const Refusal* Turns::refusal(const TenantId& user) const
{
    auto const& refused = tenants_.at(user)->refused;
    return refused ? &*refused : nullptr;
}

bool Turns::isListed(const TenantId& user) const
{
    return tenants_.at(user)->listed;
}

void Turns::passOver(const TenantId& user)
{
    rotation_.leave(user);
}

void Turns::forgetIdle()
{
    std::erase_if(tenants_,
                  [this](const auto& item) { return item.second->open() == 0 && !rotation_.contains(item.first); });
}

} // namespace twilio

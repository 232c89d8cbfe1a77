// Tenants by number, and what they are dealt.
#pragma once

#include "turns.hpp"

namespace twilio::test {

inline TenantId tenant(unsigned number)
{
    TenantId id;
    std::memcpy(id.bytes.data(), &number, sizeof number);
    return id;
}

// As if every share had been claimed.
inline TenantMap<int> all(const std::vector<Share>& shares)
{
    TenantMap<int> got;
    for (const Share& share : shares)
        got[share.user] = share.count;
    return got;
}

} // namespace twilio::test

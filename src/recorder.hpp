// What has come of orders, until SQL has recorded it, and the rows of the audit
// log that go with it.
//
// Results are recorded in batches. Where a batch fails, each is recorded alone, so
// that one that SQL cannot take holds up no other. Where a row is locked, by a
// tenant who leaves a transaction open perhaps, all that has come of this tenant's
// orders is held for a while, and the others go on.
#pragma once

#include "audit.hpp"
#include "outbox.hpp"

namespace twilio {

class Recorder {
public:
    void add(outbox::Result result);
    void add(outbox::Result result, AuditRow row);

    bool empty() const { return results_.empty(); } // but for what is held
    bool isDue(TimePoint now) const;                // a batch is full, or has waited long enough
    TimePoint dueAt() const;                        // when there is something to do, of what is held, too

    void write() const; // in a transaction of the caller's
    bool forget();      // after its commit; true: some of the orders wait again

    // In transactions of its own: the batch that failed; what is held, when it is time (false: it is not).
    void recordEach(AuditTrail& audit);
    bool recordHeld(TimePoint now);
    std::vector<TenantId> heldTenants() const; // of whom nothing is to be claimed

private:
    bool isHeld(const TenantId& user) const;
    void recordOneByOne(std::vector<outbox::Result> results);
    bool recordAlone(outbox::Result& result);

    std::vector<outbox::Result> results_;
    std::vector<outbox::Result> held_;
    std::vector<AuditRow> rows_;
    TimePoint recordBy_{};
    TimePoint heldUntil_{};
};

// An error that time heals, unlike one that comes from the data.
bool isPassing(const pg::Error& error);

} // namespace twilio

// Moves orders: claims them for tenants in turn, starts their requests as slots
// fall free, interprets the replies and records them in batches.
//
// The claim is committed before the first byte leaves. Whose turn it is, turns.hpp
// knows. work() runs the only transactions; none is open while the engine is pumped.
#pragma once

#include <list>

#include "audit.hpp"
#include "http_engine.hpp"
#include "outbox.hpp"
#include "secrets.hpp"
#include "shared.hpp"
#include "turns.hpp"

namespace twilio {

class Dispatcher {
public:
    Dispatcher(HttpEngine& engine, shared::Worker& worker, secrets::Cache& credentials, std::uint64_t& lastId);
    ~Dispatcher();
    Dispatcher(const Dispatcher&) = delete;
    Dispatcher& operator=(const Dispatcher&) = delete;

    void reload();                                // settings have changed
    void pause(bool paused);                      // library and SQL do not fit together: nothing is touched
    void wake();                                  // orders were committed
    bool take(Reply& reply);                      // false: not one of ours
    void work(AuditTrail& audit);                 // records, claims and starts what is due
    void releaseReady();                          // at the end: gives back what was not started, records what has come
    std::chrono::milliseconds waitMillis() const; // until work() has something to do; -1: nothing known
    bool idle() const { return inFlight_.empty() && ready_.empty() && results_.empty(); }

private:
    struct InFlight;

    bool maySend() const;
    bool wantsToRecord(TimePoint now) const;
    bool wantsToClaim(TimePoint now) const;
    void transact(TimePoint now);
    void recordOneByOne(AuditTrail& audit);
    void refresh(TimePoint now);
    void poll(TimePoint now);
    std::vector<Share> chooseShares(TimePoint now);
    void accept(const std::vector<Share>& shares, std::vector<outbox::Order> orders);
    void keep(outbox::Result result); // until it is recorded
    void startReady();
    void refuse(const outbox::Order& order, const char* outcome, const Refusal& refusal);
    void start(outbox::Order&& order);
    const Secret& openCredential(const outbox::Order& order);
    std::size_t room() const;

    HttpEngine& engine_;
    shared::Worker& worker_;
    secrets::Cache& credentials_;
    std::uint64_t& lastId_;
    Turns turns_;
    std::list<outbox::Order> ready_; // claimed and committed, not yet started
    std::unordered_map<std::uint64_t, InFlight> inFlight_;
    std::vector<outbox::Result> results_;
    std::vector<AuditRow> rows_; // for the audit log, one per request
    bool paused_ = false;
    bool recovered_ = false; // what a crash has cut off is sorted out
    bool refreshWanted_ = true;
    TimePoint refreshNotBefore_{};
    TimePoint pollAt_;
    TimePoint recordBy_{};
    TimePoint troubleUntil_{}; // after an error of SQL
};

} // namespace twilio

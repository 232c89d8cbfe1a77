// The worker's side of asks: takes them from the ring, opens their credentials,
// starts the transfers, and hands the answers back over shm_mq without blocking.
//
// An ask that its backend has given up on is canceled. Every request that was
// started gets a row in the audit log, written while its backend reads the answer.
#pragma once

#include "audit.hpp"
#include "http_engine.hpp"
#include "pacing.hpp"
#include "secrets.hpp"
#include "shared.hpp"

namespace twilio {

class AskDesk {
public:
    AskDesk(HttpEngine& engine, shared::Worker& worker, secrets::Cache& credentials, std::uint64_t& lastId);
    ~AskDesk();
    AskDesk(const AskDesk&) = delete;
    AskDesk& operator=(const AskDesk&) = delete;

    void reload();                  // settings have changed
    void admit();                   // new asks, and those whose backend has gone
    bool take(Reply& reply);        // false: not one of ours
    void answer(AuditTrail& audit); // answers what has finished, and records it
    bool idle() const { return asks_.empty(); }

private:
    struct Ask;
    using Asks = std::unordered_map<std::uint64_t, std::unique_ptr<Ask>>;

    void attach(shared::AskSlot& slot);
    void startWaiting();
    void start(Ask& ask);
    void dropCanceled();
    void note(AuditTrail& audit, Ask& ask);
    void push();

    HttpEngine& engine_;
    shared::Worker& worker_;
    secrets::Cache& credentials_;
    std::uint64_t& lastId_;
    AskQuota quota_;
    Asks asks_;
    std::vector<Ask*> waiting_;  // attached, not yet started
    std::vector<Ask*> finished_; // have an answer to be recorded and pushed
    std::size_t inFlight_ = 0;
    bool batchOpen_ = false; // of audit rows, see shared::Worker::audited
    std::uint32_t cancellationsSeen_ = 0;
};

} // namespace twilio

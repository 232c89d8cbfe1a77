// Moves orders: claims them for tenants in turn, hands them to the sender, interprets
// the replies and records them in batches.
//
// The claim is committed before the sender gets an order. Whose turn it is, turns.hpp
// knows. While work() is in SQL, the sender goes on in its thread; no transaction waits for it.
#pragma once

#include "recorder.hpp"
#include "secrets.hpp"
#include "sending_thread.hpp"
#include "shared.hpp"

namespace twilio {

class Dispatcher {
public:
    Dispatcher(Sender& sender, shared::Worker& worker, secrets::Cache& credentials, std::uint64_t& lastId);
    Dispatcher(const Dispatcher&) = delete;
    Dispatcher& operator=(const Dispatcher&) = delete;

    void reload();                                // settings have changed
    void pause(bool paused);                      // library and SQL do not fit together: nothing is touched
    void wake();                                  // orders were committed
    void work(AuditTrail& audit);                 // records and claims what is due
    void finish();                                // at the end: gives back what was not started, records what has come
    std::chrono::milliseconds waitMillis() const; // until work() has something to do; -1: nothing known
    bool idle() const { return sender_.idle() && recorder_.empty(); }
    void endThread() noexcept { thread_.end(); }

private:
    struct Claim {
        std::vector<Share> shares;
        std::vector<Order> orders;
    };

    bool maySend() const;
    bool mustGiveBack() const;
    void allow();
    void releaseReady();
    void collect();
    bool wantsToRecord(TimePoint now) const;
    bool wantsToClaim(TimePoint now) const;
    Claim transact(TimePoint now);
    void forgetRecorded();
    void recordedAlone();
    void passOverHeld();
    void refresh(TimePoint now);
    void poll(TimePoint now);
    std::vector<Share> chooseShares(TimePoint now);
    std::optional<SendingThread::Loan> lendSender();
    void accept(Claim claim);
    void hand(Order order);
    Request toRequest(Order& order);
    const Secret& openCredential(const Order& order);
    void settle(const Order& order, const Outcome& outcome, Reply& reply);
    void settle(const Order& order, const char* outcome, const Refusal& why); // no request was made
    std::size_t room() const;

    Sender& sender_;
    SendingThread thread_{sender_};
    shared::Worker& worker_;
    secrets::Cache& credentials_;
    std::uint64_t& lastId_;
    Turns& turns_ = sender_.turns();
    Recorder recorder_;
    bool paused_ = false;
    bool recovered_ = false; // what a crash has cut off is sorted out
    bool refreshWanted_ = true;
    std::size_t claimedSinceRefresh_ = 0;
    TimePoint refreshNotBefore_{};
    TimePoint pollAt_;
    TimePoint troubleUntil_{}; // after an error of SQL
};

} // namespace twilio

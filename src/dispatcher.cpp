// Turns, claims and what they give. See sql/orders.sql for the states.
#include "dispatcher.hpp"

#include "destination.hpp"
#include "order_result.hpp"
#include "retry.hpp"
#include "settings.hpp"

namespace twilio {

namespace {

using namespace std::chrono_literals;
using outbox::Result;
using std::chrono::milliseconds;

constexpr milliseconds afterSqlError = 500ms;
constexpr int claimAtMost = 500;
constexpr std::size_t refreshAfter = 10'000; // claimed orders: what they leave in the index, each claim passes over
constexpr std::size_t worthALoan = 16;       // requests: for fewer, lending the sender costs more than it gains

} // namespace

Dispatcher::Dispatcher(Sender& sender, shared::Worker& worker, secrets::Cache& credentials, std::uint64_t& lastId)
    : sender_(sender), worker_(worker), credentials_(credentials), lastId_(lastId),
      pollAt_(Clock::now() + std::chrono::seconds(settings::pollIntervalS))
{
    allow();
}

bool Dispatcher::maySend() const
{
    return settings::enabled && !paused_ && !ShutdownRequestPending;
}

bool Dispatcher::mustGiveBack() const
{
    return !settings::enabled && sender_.ready() > 0;
}

void Dispatcher::allow()
{
    sender_.allow(maySend() ? static_cast<std::size_t>(settings::maxInFlight) : 0);
}

void Dispatcher::pause(bool paused)
{
    paused_ = paused;
    reload();
}

void Dispatcher::reload()
{
    allow();
    refreshWanted_ = true;
    pollAt_ = std::min(pollAt_, Clock::now() + std::chrono::seconds(settings::pollIntervalS));
    if (!maySend() && sender_.ready() > 0)
        releaseReady();
}

void Dispatcher::wake()
{
    refreshWanted_ = true;
}

// ---- replies ----------------------------------------------------------------

void Dispatcher::collect()
{
    for (Sender::Answered& answered : sender_.takeAnswered())
        settle(answered.order, answered.outcome, answered.reply);
    for (const Sender::Refused& refused : sender_.takeRefused())
        settle(refused.order, refused.outcome, refused.why);
}

void Dispatcher::settle(const Order& order, const Outcome& outcome, Reply& reply)
{
    Result result = toResult(order, outcome, reply);
    (result.is("sent") ? worker_.counters.sent : worker_.counters.failed)++;
    if (!result.is("sent"))
        shared::noteError(worker_, result.errorMessage.empty() ? reply.error : result.errorMessage);
    AuditRow row = toAuditRow(order, reply, result);
    recorder_.add(std::move(result), std::move(row));
    logRequest(order.method, order.path, reply);
}

void Dispatcher::settle(const Order& order, const char* outcome, const Refusal& why)
{
    Result result;
    result.orderId = order.id;
    result.user = order.user;
    result.outcome = outcome;
    result.errorCode = why.code;
    result.errorMessage = why.message;
    result.at = GetCurrentTimestamp();
    recorder_.add(std::move(result));
}

// ---- transactions -----------------------------------------------------------

std::size_t Dispatcher::room() const
{
    std::size_t const most = static_cast<std::size_t>(settings::maxInFlight) * openPerSlot;
    std::size_t const taken = sender_.ready() + sender_.inFlight();
    return taken >= most ? 0 : most - taken;
}

bool Dispatcher::wantsToRecord(TimePoint now) const
{
    return recorder_.isDue(now) || (!recorder_.empty() && sender_.inFlight() == 0);
}

bool Dispatcher::wantsToClaim(TimePoint now) const
{
    if (!maySend() || now < troubleUntil_)
        return false;
    if ((refreshWanted_ && now >= refreshNotBefore_) || now >= turns_.nextDue() || now >= turns_.paceAllows())
        return true;
    // A claim costs about as much as what it brings, where that is a dozen orders. So it waits until it brings as many
    // as may be in flight; no longer than until a slot is free for which nothing is ready.
    std::size_t const most = static_cast<std::size_t>(settings::maxInFlight);
    return room() >= (sender_.inFlight() < most ? 1 : most) && turns_.isWorthAClaim();
}

// Asks SQL who waits. Costs one index probe per tenant, so it is spaced when it takes long.
void Dispatcher::refresh(TimePoint now)
{
    auto const begun = Clock::now(); // which `now` is not, where recording has waited for a lock
    refreshWanted_ = false;
    claimedSinceRefresh_ = 0;
    turns_.list(outbox::waitingTenants(now), now);
    passOverHeld();
    refreshNotBefore_ = Clock::now() + 4 * (Clock::now() - begun);
}

void Dispatcher::passOverHeld()
{
    for (const TenantId& tenant : recorder_.heldTenants())
        turns_.passOver(tenant);
}

std::vector<Share> Dispatcher::chooseShares(TimePoint now)
{
    if ((refreshWanted_ && now >= refreshNotBefore_) || now >= turns_.nextDue())
        refresh(now);
    return turns_.deal(std::min<std::size_t>(room(), claimAtMost), now);
}

// Takes over what was claimed, once the claim is committed.
void Dispatcher::accept(Claim claim)
{
    TenantMap<int> got;
    for (const Order& order : claim.orders)
        got[order.user]++;
    claimedSinceRefresh_ += claim.orders.size();
    if (turns_.claimed(claim.shares, got) || claimedSinceRefresh_ >= refreshAfter)
        refreshWanted_ = true; // to find what is due later
    for (Order& order : claim.orders)
        hand(std::move(order));
    allow();                   // what ended the wait for a standby may be the end of this process
    if (!sender_.hasReplies()) // else there is a next loan at once
        sender_.start();
}

void Dispatcher::poll(TimePoint now)
{
    pollAt_ = now + std::chrono::seconds(settings::pollIntervalS);
    refreshWanted_ = true;
    turns_.forgetIdle();
}

void Dispatcher::work(AuditTrail& audit)
{
    thread_.check(); // else what it has lost would stay under way for ever
    collect();
    auto const now = Clock::now();
    if (paused_ || now < troubleUntil_)
        return;
    if (mustGiveBack())
        releaseReady(); // what the reload could not
    if (recorder_.recordHeld(now))
        recordedAlone();
    if (!recovered_ || wantsToRecord(now) || wantsToClaim(now) || now >= pollAt_) {
        try {
            Claim claim = transact(now);
            forgetRecorded();
            accept(std::move(claim));
        } catch (const pg::Error& error) {
            pg::logError(error, "recording and claiming orders");
            shared::noteError(worker_, error.what());
            troubleUntil_ = now + afterSqlError;
            refreshWanted_ = true; // the shares that were dealt are void
            if (recorder_.empty() || ShutdownRequestPending)
                return;
            recorder_.recordEach(audit);
            recordedAlone();
        }
    }
}

// Everything in one transaction: what has come is recorded before the next is claimed.
Dispatcher::Claim Dispatcher::transact(TimePoint now)
{
    pg::Transaction transaction("pg_twilio: recording and claiming orders");
    Claim claim;
    if (!transaction.lockExtension()) {
        worker_.lookAgain = true; // and leave
        troubleUntil_ = now + afterSqlError;
        transaction.commit();
        return claim;
    }
    {
        auto const loan = lendSender();
        if (!recovered_)
            outbox::recover();
        recorder_.write();
        if (now >= pollAt_)
            outbox::finishExpired();
    }
    if (now >= pollAt_)
        poll(now);
    if (wantsToClaim(now))
        claim.shares = chooseShares(now);
    auto const loan = lendSender();
    if (!claim.shares.empty())
        claim.orders = outbox::claim(claim.shares);
    if (!claim.orders.empty())
        transaction.commitDurably();
    transaction.commit();
    return claim;
}

void Dispatcher::forgetRecorded()
{
    recovered_ = true;
    if (recorder_.forget())
        refreshWanted_ = true; // to find when they are due
}

// Of some tenants there may be results that wait, of others no more.
void Dispatcher::recordedAlone()
{
    passOverHeld();
    refreshWanted_ = true;
}

std::optional<SendingThread::Loan> Dispatcher::lendSender()
{
    if (sender_.ready() + sender_.inFlight() < worthALoan)
        return std::nullopt;
    return std::optional<SendingThread::Loan>(std::in_place, thread_);
}

// ---- requests ---------------------------------------------------------------

// A claimed order to the sender, with its request.
void Dispatcher::hand(Order order)
{
    Reply none;
    try {
        Request request = toRequest(order);
        return sender_.add(std::move(order), std::move(request));
    } catch (const pg::Failure& failure) {
        turns_.released(order.user);
        if (failure.code() == ERRCODE_INVALID_PARAMETER_VALUE)
            return settle(order, "poisoned", {0, failure.detail});
        none.error = failure.what() + (": " + failure.detail);
    } catch (const pg::Error& error) {
        turns_.released(order.user);
        none.error = error.what();
    }
    // Not a byte was sent, so it waits and is tried again.
    settle(order, RetryAt{Clock::now() + backoff(order.attempts, std::nullopt, random01()), 0, none.error}, none);
}

Request Dispatcher::toRequest(Order& order)
{
    Request request;
    request.id = ++lastId_;
    request.method = order.method;
    request.url = destination(order.host, order.path);
    request.username = order.username;
    request.password = openCredential(order).copy();
    request.body = std::move(order.content);
    request.contentType = std::move(order.contentType);
    return request;
}

const Secret& Dispatcher::openCredential(const Order& order)
{
    pg_uuid_t user;
    std::memcpy(user.data, order.user.bytes.data(), UUID_LEN);
    secrets::Owner const owner{user, order.credentialKind};
    if (const Secret* known = credentials_.find(owner, order.keyId, order.sealed); known != nullptr)
        return *known;
    pg::Transaction transaction("pg_twilio: opening a credential");
    const Secret& secret = credentials_.open(owner, order.keyId, order.sealed);
    transaction.commit();
    return secret;
}

// Not with what has come, which a lock may hold up.
void Dispatcher::releaseReady()
{
    try {
        pg::Transaction transaction("pg_twilio: giving orders back");
        if (transaction.lockExtension())
            outbox::release(sender_.readyIds());
        transaction.commit();
        sender_.giveBackReady();
    } catch (const pg::Error& error) {
        pg::logError(error, "giving orders back"); // they are kept, to be started or given back another time
        troubleUntil_ = Clock::now() + afterSqlError;
    }
}

void Dispatcher::finish()
{
    if (sender_.ready() > 0)
        releaseReady();
    collect();
    try {
        pg::Transaction transaction("pg_twilio: recording orders at the end");
        if (transaction.lockExtension())
            recorder_.write();
        transaction.commit();
        recorder_.forget();
    } catch (const pg::Error& error) {
        pg::logError(error, "recording orders at the end");
    }
}

milliseconds Dispatcher::waitMillis() const
{
    if (paused_)
        return std::chrono::hours(1);
    auto const now = Clock::now();
    TimePoint due = recovered_ ? pollAt_ : now;
    due = std::min(due, recorder_.dueAt());
    if (maySend()) {
        due = std::min({due, turns_.nextDue(), turns_.paceAllows()});
        if (refreshWanted_)
            due = std::min(due, refreshNotBefore_);
        if (wantsToClaim(now))
            due = now;
    } else if (mustGiveBack()) {
        due = now;
    }
    due = std::max({due, troubleUntil_, now});
    return std::chrono::ceil<milliseconds>(due - now);
}

} // namespace twilio

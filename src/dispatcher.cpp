// Turns, claims, starts and records. See sql/orders.sql for the states.
#include "dispatcher.hpp"

#include "destination.hpp"
#include "order_result.hpp"
#include "settings.hpp"

namespace twilio {

namespace {

using namespace std::chrono_literals;
using outbox::Order;
using outbox::Result;
using std::chrono::milliseconds;

constexpr std::size_t recordAtOnce = 100;
constexpr milliseconds recordWithin = 20ms;
constexpr milliseconds afterSqlError = 500ms;
constexpr int claimAtMost = 500;

// An error that time heals, unlike one that comes from the data.
bool isPassing(const pg::Error& error)
{
    int const category = ERRCODE_TO_CATEGORY(error.sqlstate());
    return category == ERRCODE_TO_CATEGORY(ERRCODE_T_R_DEADLOCK_DETECTED) ||
           category == ERRCODE_TO_CATEGORY(ERRCODE_LOCK_NOT_AVAILABLE) ||
           category == ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES) ||
           category == ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION) ||
           category == ERRCODE_TO_CATEGORY(ERRCODE_IO_ERROR);
}

} // namespace

struct Dispatcher::InFlight {
    Order order;
};

Dispatcher::Dispatcher(HttpEngine& engine, shared::Worker& worker, secrets::Cache& credentials, std::uint64_t& lastId)
    : engine_(engine), worker_(worker), credentials_(credentials), lastId_(lastId),
      pollAt_(Clock::now() + std::chrono::seconds(settings::pollIntervalS))
{
}

Dispatcher::~Dispatcher() = default;

bool Dispatcher::maySend() const
{
    return settings::enabled && !paused_ && !ShutdownRequestPending;
}

void Dispatcher::pause(bool paused)
{
    paused_ = paused;
    reload();
}

void Dispatcher::reload()
{
    refreshWanted_ = true;
    if (!maySend() && !ready_.empty())
        releaseReady();
}

void Dispatcher::wake()
{
    refreshWanted_ = true;
}

// ---- replies ----------------------------------------------------------------

bool Dispatcher::take(Reply& reply)
{
    auto node = inFlight_.extract(reply.id);
    if (node.empty())
        return false;
    Order const& order = node.mapped().order;
    Result result = toResult(order, reply);
    turns_.finished(order.user);
    if (reply.transport == Transport::answered && reply.status == 429)
        turns_.slowDown(order.user, Clock::now());
    else if (result.is("sent"))
        turns_.succeeded(order.user);
    else if (result.is("account"))
        turns_.refuse(order.user, {result.errorCode, result.errorMessage});

    (result.is("sent") ? worker_.counters.sent : worker_.counters.failed)++;
    if (!result.is("sent"))
        shared::noteError(worker_, result.errorMessage.empty() ? reply.error : result.errorMessage);
    rows_.push_back(toAuditRow(order, reply, result));
    logRequest(order.method, order.path, reply);
    keep(std::move(result));
    return true;
}

void Dispatcher::keep(Result result)
{
    if (results_.empty())
        recordBy_ = Clock::now() + recordWithin;
    results_.push_back(std::move(result));
}

// ---- transactions -----------------------------------------------------------

std::size_t Dispatcher::room() const
{
    std::size_t const most = static_cast<std::size_t>(settings::maxInFlight) * openPerSlot;
    std::size_t const taken = ready_.size() + inFlight_.size();
    return taken >= most ? 0 : most - taken;
}

bool Dispatcher::wantsToRecord(TimePoint now) const
{
    return !results_.empty() && (results_.size() >= recordAtOnce || now >= recordBy_ || inFlight_.empty());
}

bool Dispatcher::wantsToClaim(TimePoint now) const
{
    if (!maySend() || now < troubleUntil_)
        return false;
    if ((refreshWanted_ && now >= refreshNotBefore_) || now >= turns_.nextDue())
        return true;
    // Claims are worth their commit when a good part of the slots is free.
    std::size_t const most = static_cast<std::size_t>(settings::maxInFlight);
    return turns_.mayDeal() && ready_.size() <= most / 2 && room() >= std::max<std::size_t>(1, most / 4);
}

// Asks SQL who waits. Costs one index probe per tenant, so it is spaced when it takes long.
void Dispatcher::refresh(TimePoint now)
{
    refreshWanted_ = false;
    turns_.list(outbox::waitingTenants(now), now);
    refreshNotBefore_ = Clock::now() + 4 * (Clock::now() - now);
}

std::vector<Share> Dispatcher::chooseShares(TimePoint now)
{
    if ((refreshWanted_ && now >= refreshNotBefore_) || now >= turns_.nextDue())
        refresh(now);
    return turns_.deal(std::min<std::size_t>(room(), claimAtMost), now);
}

// Takes over what was claimed, once the claim is committed.
void Dispatcher::accept(const std::vector<Share>& shares, std::vector<Order> orders)
{
    TenantMap<int> got;
    for (Order& order : orders) {
        got[order.user]++;
        ready_.push_back(std::move(order));
    }
    if (turns_.claimed(shares, got))
        refreshWanted_ = true; // to find what is due later
}

void Dispatcher::poll(TimePoint now)
{
    pollAt_ = now + std::chrono::seconds(settings::pollIntervalS);
    refreshWanted_ = true;
    outbox::finishExpired();
    turns_.forgetIdle();
}

void Dispatcher::work(AuditTrail& audit)
{
    auto const now = Clock::now();
    if (!paused_ && now >= troubleUntil_ &&
        (!recovered_ || wantsToRecord(now) || wantsToClaim(now) || now >= pollAt_)) {
        try {
            transact(now);
        } catch (const pg::Error& error) {
            pg::logError(error, "recording and claiming orders");
            shared::noteError(worker_, error.what());
            troubleUntil_ = now + afterSqlError;
            refreshWanted_ = true; // the shares that were dealt are void
            if (!isPassing(error) && !results_.empty())
                recordOneByOne(audit);
        }
    }
    startReady();
}

void Dispatcher::transact(TimePoint now)
{
    std::vector<Share> shares;
    std::vector<Order> orders;
    pg::Transaction transaction("pg_twilio: recording and claiming orders");
    if (!transaction.lockExtension()) {
        worker_.lookAgain = true; // and leave
        troubleUntil_ = now + afterSqlError;
    } else {
        if (!recovered_)
            outbox::recover();
        if (!results_.empty())
            outbox::record(results_);
        AuditTrail::writeWithin(rows_);
        if (now >= pollAt_)
            poll(now);
        if (wantsToClaim(now))
            shares = chooseShares(now);
        if (!shares.empty())
            orders = outbox::claim(shares);
        if (!orders.empty())
            transaction.commitDurably();
    }
    transaction.commit();
    recovered_ = true;
    if (std::any_of(results_.begin(), results_.end(), [](const Result& result) { return result.retryAt != 0; }))
        refreshWanted_ = true; // to find when it is due again
    results_.clear();
    rows_.clear();
    accept(shares, std::move(orders));
}

// After a failed batch: the result that SQL cannot take must not hold up the others.
void Dispatcher::recordOneByOne(AuditTrail& audit)
{
    for (AuditRow& row : std::exchange(rows_, {}))
        audit.add(std::move(row));
    for (Result& result : std::exchange(results_, {})) {
        for (bool whole : {true, false}) {
            if (!whole)
                result.body.clear();
            try {
                pg::Transaction transaction("pg_twilio: recording one order");
                if (transaction.lockExtension())
                    outbox::record({result});
                transaction.commit();
                break;
            } catch (const pg::Error& error) {
                pg::logError(error, "recording an order");
                if (isPassing(error)) {
                    results_.push_back(result);
                    break;
                }
            }
        }
    }
}

// ---- requests ---------------------------------------------------------------

void Dispatcher::startReady()
{
    auto const most = static_cast<std::size_t>(settings::maxInFlight);
    for (auto next = ready_.begin(); next != ready_.end() && inFlight_.size() < most && maySend();) {
        auto const here = next++;
        if (const Refusal* refusal = turns_.refusal(here->user); refusal != nullptr) {
            turns_.released(here->user);
            refuse(*here, "account", *refusal);
        } else if (turns_.mayStart(here->user)) {
            turns_.started(here->user);
            start(std::move(*here));
        } else {
            continue;
        }
        ready_.erase(here);
    }
}

// The end of an order for which no request was made.
void Dispatcher::refuse(const Order& order, const char* outcome, const Refusal& refusal)
{
    Result result;
    result.orderId = order.id;
    result.outcome = outcome;
    result.errorCode = refusal.code;
    result.errorMessage = refusal.message;
    result.at = GetCurrentTimestamp();
    keep(std::move(result));
}

void Dispatcher::start(Order&& order)
{
    std::uint64_t const id = ++lastId_;
    Request request;
    request.id = id;
    request.method = order.method;
    request.body = std::move(order.form);
    if (!request.body.empty() && request.body.front() == '{')
        request.contentType = "application/json";
    request.username = order.username;
    Reply refused;
    refused.id = id;
    refused.transport = Transport::unreachable;
    try {
        request.url = destination(order.host, order.path);
        request.password = openCredential(order).copy();
    } catch (const pg::Failure& failure) {
        if (failure.code() == ERRCODE_INVALID_PARAMETER_VALUE) {
            refuse(order, "poisoned", {0, failure.detail});
            turns_.finished(order.user);
            return;
        }
        refused.error = failure.detail;
    } catch (const pg::Error& error) {
        refused.error = error.what();
    }
    inFlight_.emplace(id, InFlight{std::move(order)});
    if (refused.error.empty())
        engine_.start(std::move(request));
    else
        take(refused); // not a byte was sent: it waits and is tried again
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

// Gives claimed orders back that were not started, and records what has come.
void Dispatcher::releaseReady()
{
    std::vector<std::int64_t> unstarted;
    for (const Order& order : ready_)
        unstarted.push_back(order.id);
    try {
        pg::Transaction transaction("pg_twilio: giving orders back");
        if (transaction.lockExtension()) {
            if (!unstarted.empty())
                outbox::release(unstarted);
            if (!results_.empty())
                outbox::record(results_);
            AuditTrail::writeWithin(rows_);
        }
        transaction.commit();
    } catch (const pg::Error& error) {
        pg::logError(error, "giving orders back"); // they are kept, to be started or given back another time
        return;
    }
    for (const Order& order : std::exchange(ready_, {}))
        turns_.released(order.user);
    results_.clear();
    rows_.clear();
}

milliseconds Dispatcher::waitMillis() const
{
    if (paused_)
        return std::chrono::hours(1);
    auto const now = Clock::now();
    TimePoint due = recovered_ ? pollAt_ : now;
    if (!results_.empty())
        due = std::min(due, recordBy_);
    if (maySend()) {
        due = std::min(due, turns_.nextDue());
        if (refreshWanted_)
            due = std::min(due, refreshNotBefore_);
        if (wantsToClaim(now))
            due = now;
    }
    due = std::max({due, troubleUntil_, now});
    return std::chrono::ceil<milliseconds>(due - now);
}

} // namespace twilio

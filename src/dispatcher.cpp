// Turns, claims, starts and records. See sql/orders.sql for the states.
#include "dispatcher.hpp"

#include "json_check.hpp"
#include "json_scan.hpp"
#include "retry.hpp"
#include "settings.hpp"

namespace twilio {

namespace {

using namespace std::chrono_literals;
using outbox::Order;
using outbox::Result;
using outbox::Share;
using std::chrono::milliseconds;

constexpr std::size_t recordAtOnce = 50;
constexpr milliseconds recordWithin = 20ms;
constexpr milliseconds afterSqlError = 500ms;
constexpr int claimAtMost = 500;

template <typename... Cases> struct Match : Cases... {
    using Cases::operator()...;
};
template <typename... Cases> Match(Cases...) -> Match<Cases...>;

TimePoint toTimePoint(TimestampTz time, TimePoint now)
{
    return now + std::chrono::microseconds(time - GetCurrentTimestamp());
}

TimestampTz toTimestamp(TimePoint time)
{
    return GetCurrentTimestamp() +
           std::chrono::duration_cast<std::chrono::microseconds>(time - Clock::now()).count();
}

double random01()
{
    static std::uint64_t state = static_cast<std::uint64_t>(GetCurrentTimestamp()) ^ static_cast<std::uint64_t>(MyProcPid);
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<double>(state >> 11) / static_cast<double>(1ULL << 53);
}

// The outcome that record_orders() takes, with what goes beside it.
void describe(const Outcome& outcome, const Order& order, Result& result)
{
    std::visit(Match{[&](const Sent& sent) {
                         result.outcome = "sent";
                         result.sid = sent.sid;
                     },
                     [&](const RetryAt& retry) {
                         result.outcome = order.attempts >= settings::maxAttempts ? "expired" : "retry";
                         result.errorCode = retry.code;
                         result.errorMessage = retry.message;
                         result.retryAt = toTimestamp(retry.at);
                     },
                     [&](const Rejected& rejected) {
                         result.outcome = rejected.accountTrouble ? "account" : "rejected";
                         result.errorCode = rejected.code;
                         result.errorMessage = rejected.message;
                     },
                     [&](const Unknown& unknown) {
                         result.outcome = "unknown";
                         result.errorMessage = unknown.reason;
                         if (!order.repeatable)
                             return;
                         result.outcome = order.attempts >= settings::maxAttempts ? "expired" : "retry";
                         result.retryAt = toTimestamp(Clock::now() + backoff(order.attempts, std::nullopt, random01()));
                     }},
               outcome);
}

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

bool fitsDatabase(const std::string& body)
{
    return body.find('\0') == std::string::npos &&
           pg_verify_mbstr(PG_UTF8, body.data(), static_cast<int>(body.size()), true);
}

} // namespace

struct Dispatcher::Tenant {
    explicit Tenant(TimePoint now)
        : ceiling(settings::userMaxInFlight), bucket(settings::rateLimitPerSecond, 1, now)
    {
    }
    int open() const { return ready + inFlight; }

    Aimd ceiling;
    TokenBucket bucket;
    int ready = 0;
    int inFlight = 0;
    TimePoint nextDue{};
    std::optional<Refusal> refused; // Twilio refuses the account: its claimed orders go back unsent
};

struct Dispatcher::InFlight {
    Order order;
};

Dispatcher::Dispatcher(HttpEngine& engine, shared::Worker& worker, secrets::Cache& credentials, std::uint64_t& lastId)
    : engine_(engine), worker_(worker), credentials_(credentials), lastId_(lastId),
      pollAt_(Clock::now() + std::chrono::seconds(settings::pollIntervalS))
{
}

Dispatcher::~Dispatcher() = default;

Dispatcher::Tenant& Dispatcher::tenant(const TenantId& user)
{
    auto& slot = tenants_[user];
    if (slot == nullptr)
        slot = std::make_unique<Tenant>(Clock::now());
    return *slot;
}

bool Dispatcher::maySend() const
{
    return settings::enabled;
}

void Dispatcher::recover()
{
    pg::Transaction transaction("pg_twilio: recovering orders");
    if (transaction.lockExtension())
        outbox::recover();
    transaction.commit();
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
    auto const now = Clock::now();
    Tenant& owner = tenant(order.user);
    owner.inFlight--;
    allServed_ = false;
    blankSecrets(reply.body);
    if (!fitsDatabase(reply.body))
        reply.body.clear();

    Outcome const outcome = interpret(reply, now, order.attempts, random01());
    if (reply.transport == Transport::answered && reply.status == 429)
        owner.ceiling.refused(now);
    else if (std::holds_alternative<Sent>(outcome))
        owner.ceiling.succeeded();

    Result result;
    describe(outcome, order, result);
    if (std::strcmp(result.outcome, "account") == 0) {
        owner.refused = {result.errorCode, result.errorMessage};
        rotation_.leave(order.user);
    }
    finish(order, reply, std::move(result));
    return true;
}

void Dispatcher::finish(const Order& order, const Reply& reply, Result result)
{
    result.orderId = order.id;
    result.status = static_cast<int>(reply.status);
    result.requestId = reply.requestId;
    result.at = GetCurrentTimestamp();
    result.durationMs = static_cast<int>(reply.duration.count() / 1000);
    bool const sent = std::strcmp(result.outcome, "sent") == 0;
    if (sent || reply.status >= 400)
        result.body = looksComplete(reply.body) ? reply.body : std::string();
    (sent ? worker_.counters.sent : worker_.counters.failed)++;
    if (!sent)
        shared::noteError(worker_, result.errorMessage.empty() ? reply.error : result.errorMessage);

    AuditRow row;
    row.at = result.at;
    std::memcpy(row.user.data, order.user.bytes.data(), UUID_LEN);
    row.actor = "pg_twilio worker";
    row.action = order.kind;
    row.object = result.sid;
    row.outcome = auditOutcome(reply);
    row.requestId = reply.requestId;
    row.status = result.status;
    row.errorCode = result.errorCode;
    row.durationMs = result.durationMs;
    rows_.push_back(std::move(row));
    logRequest(order.method, order.path, reply);

    if (results_.empty())
        recordBy_ = Clock::now() + recordWithin;
    results_.push_back(std::move(result));
}

// ---- transactions -----------------------------------------------------------

std::size_t Dispatcher::room() const
{
    std::size_t const most = static_cast<std::size_t>(settings::maxInFlight) * 2;
    std::size_t const taken = ready_.size() + inFlight_.size();
    return taken >= most ? 0 : most - taken;
}

bool Dispatcher::wantsToRecord(TimePoint now) const
{
    return !results_.empty() && (results_.size() >= recordAtOnce || now >= recordBy_ || inFlight_.empty());
}

bool Dispatcher::wantsToClaim(TimePoint now) const
{
    if (!maySend() || now < pausedUntil_)
        return false;
    if ((refreshWanted_ && now >= refreshNotBefore_) || now >= nextDue_)
        return true;
    if (allServed_)
        return false;
    // Claims are worth their commit when a good part of the slots is free.
    std::size_t const most = static_cast<std::size_t>(settings::maxInFlight);
    return !rotation_.empty() && ready_.size() < most / 2 && room() >= std::max<std::size_t>(1, most / 4);
}

// Asks SQL who waits. Costs one index probe per tenant, so it is spaced when it takes long.
void Dispatcher::refresh(TimePoint now)
{
    refreshWanted_ = false;
    nextDue_ = TimePoint::max();
    TenantMap<bool> listed;
    for (const outbox::WaitingTenant& waiting : outbox::waitingTenants()) {
        Tenant& owner = tenant(waiting.user);
        listed[waiting.user] = true;
        owner.refused.reset();
        owner.nextDue = toTimePoint(waiting.nextDue, now);
        owner.ceiling.setMaximum(waiting.maxInFlight.value_or(settings::userMaxInFlight));
        double const rate = waiting.ratePerSecond.value_or(settings::rateLimitPerSecond);
        owner.bucket.setRate(rate, std::max(1.0, rate / 10), now);
        if (owner.nextDue <= now)
            rotation_.enter(waiting.user);
        else
            nextDue_ = std::min(nextDue_, owner.nextDue);
    }
    for (const auto& [user, owner] : tenants_)
        if (!listed.contains(user))
            rotation_.leave(user);
    refreshNotBefore_ = Clock::now() + 4 * (Clock::now() - now);
}

// Deals free slots one by one, in turn, to tenants below their ceiling and pace.
std::vector<Share> Dispatcher::deal(TimePoint now)
{
    TenantMap<int> dealt;
    std::size_t free = std::min<std::size_t>(room(), claimAtMost);
    std::size_t passed = 0;
    while (free > 0 && passed < rotation_.size()) {
        auto const user = rotation_.deal();
        if (!user)
            break;
        Tenant& owner = tenant(*user);
        int& count = dealt[*user];
        if (owner.open() + count >= owner.ceiling.ceiling() * 2) {
            passed++;
        } else if (!owner.bucket.take(now)) {
            passed++;
            nextDue_ = std::min(nextDue_, owner.bucket.readyAt(now));
        } else {
            passed = 0;
            count++;
            free--;
        }
    }
    std::vector<Share> shares;
    for (const auto& [user, count] : dealt)
        if (count > 0)
            shares.push_back({user, count});
    return shares;
}

std::vector<Share> Dispatcher::chooseShares(TimePoint now)
{
    if ((refreshWanted_ && now >= refreshNotBefore_) || now >= nextDue_)
        refresh(now);
    std::vector<Share> shares = deal(now);
    allServed_ = shares.empty();
    return shares;
}

// Takes over what was claimed, once the claim is committed.
void Dispatcher::accept(const std::vector<Share>& shares, std::vector<Order> orders)
{
    TenantMap<int> got;
    for (Order& order : orders) {
        got[order.user]++;
        tenant(order.user).ready++;
        ready_.push_back(std::move(order));
    }
    for (const Share& share : shares)
        if (got[share.user] < share.count) {
            rotation_.leave(share.user); // nothing more is due now; refresh() finds what is due later
            refreshWanted_ = true;
        }
}

void Dispatcher::poll(TimePoint now)
{
    pollAt_ = now + std::chrono::seconds(settings::pollIntervalS);
    refreshWanted_ = true;
    outbox::finishExpired();
    std::erase_if(tenants_,
                  [&](const auto& item) { return item.second->open() == 0 && !rotation_.contains(item.first); });
}

void Dispatcher::work(AuditTrail& audit)
{
    auto const now = Clock::now();
    if (now >= pausedUntil_ && (wantsToRecord(now) || wantsToClaim(now) || now >= pollAt_)) {
        try {
            transact(now);
        } catch (const pg::Error& error) {
            pg::logError(error, "recording and claiming orders");
            shared::noteError(worker_, error.what());
            pausedUntil_ = now + afterSqlError;
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
    if (transaction.lockExtension()) {
        if (!results_.empty())
            outbox::record(results_);
        AuditTrail::writeWithin(rows_);
        if (now >= pollAt_)
            poll(now);
        if (wantsToClaim(now))
            shares = chooseShares(now);
        if (!shares.empty())
            orders = outbox::claim(shares);
    }
    transaction.commit();
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
    while (!ready_.empty() && maySend() && inFlight_.size() < static_cast<std::size_t>(settings::maxInFlight)) {
        Order order = std::move(ready_.front());
        ready_.pop_front();
        Tenant& owner = tenant(order.user);
        owner.ready--;
        if (owner.refused) {
            giveBack(order, *owner.refused);
            continue;
        }
        owner.inFlight++;
        start(std::move(order));
    }
}

void Dispatcher::giveBack(const Order& order, const Refusal& refusal)
{
    if (results_.empty())
        recordBy_ = Clock::now() + recordWithin;
    Result& result = results_.emplace_back();
    result.orderId = order.id;
    result.outcome = "account";
    result.errorCode = refusal.code;
    result.errorMessage = refusal.message;
    result.at = GetCurrentTimestamp();
}

void Dispatcher::start(Order&& order)
{
    std::uint64_t const id = ++lastId_;
    Request request;
    request.id = id;
    request.method = order.method;
    request.url = "https://" + settings::regionalHost(order.host) + order.path;
    request.body = std::move(order.form);
    if (!request.body.empty() && request.body.front() == '{')
        request.contentType = "application/json";
    request.username = order.username;
    Reply refused;
    refused.id = id;
    refused.transport = Transport::unreachable;
    try {
        request.password = openCredential(order).copy();
    } catch (const pg::Failure& failure) {
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
    if (const Secret* known = credentials_.find(owner, order.sealed); known != nullptr)
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
    for (const Order& order : std::exchange(ready_, {})) {
        unstarted.push_back(order.id);
        tenant(order.user).ready--;
    }
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
        results_.clear();
        rows_.clear();
    } catch (const pg::Error& error) {
        pg::logError(error, "giving orders back");
    }
}

milliseconds Dispatcher::waitMillis() const
{
    auto const now = Clock::now();
    TimePoint due = pollAt_;
    if (!results_.empty())
        due = std::min(due, recordBy_);
    if (maySend()) {
        due = std::min(due, nextDue_);
        if (refreshWanted_)
            due = std::min(due, refreshNotBefore_);
        if (wantsToClaim(now))
            due = now;
    }
    due = std::max({due, pausedUntil_, now});
    return std::chrono::ceil<milliseconds>(due - now);
}

} // namespace twilio

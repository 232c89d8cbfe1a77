// The functions of sql/order_results.sql, called for a batch or for one.
#include "recorder.hpp"

namespace twilio {

namespace {

using namespace std::chrono_literals;
using outbox::Result;
using std::chrono::milliseconds;

constexpr std::size_t recordAtOnce = 100;
constexpr milliseconds recordWithin = 50ms;
constexpr milliseconds holdFor = 2s;
constexpr std::size_t nobodysFault = 3; // tenants of whom nothing can be recorded: then it is not their rows

} // namespace

bool isPassing(const pg::Error& error)
{
    int const category = ERRCODE_TO_CATEGORY(error.sqlstate());
    return category == ERRCODE_TO_CATEGORY(ERRCODE_T_R_DEADLOCK_DETECTED) ||
           category == ERRCODE_TO_CATEGORY(ERRCODE_LOCK_NOT_AVAILABLE) ||
           category == ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES) ||
           category == ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION) ||
           category == ERRCODE_TO_CATEGORY(ERRCODE_IO_ERROR);
}

void Recorder::add(Result result)
{
    if (isHeld(result.user)) {
        held_.push_back(std::move(result));
        return;
    }
    if (results_.empty())
        recordBy_ = Clock::now() + recordWithin;
    results_.push_back(std::move(result));
}

void Recorder::add(Result result, AuditRow row)
{
    rows_.push_back(std::move(row));
    add(std::move(result));
}

bool Recorder::isDue(TimePoint now) const
{
    return results_.size() >= recordAtOnce || (!results_.empty() && now >= recordBy_);
}

TimePoint Recorder::dueAt() const
{
    return std::min(results_.empty() ? TimePoint::max() : recordBy_, held_.empty() ? TimePoint::max() : heldUntil_);
}

void Recorder::write() const
{
    if (!results_.empty())
        outbox::record(results_);
    AuditTrail::writeWithin(rows_);
}

bool Recorder::forget()
{
    rows_.clear();
    auto const recorded = std::exchange(results_, {});
    return std::any_of(recorded.begin(), recorded.end(),
                       [](const Result& result) { return result.retryAt != 0 || result.is("account"); });
}

void Recorder::recordEach(AuditTrail& audit)
{
    for (AuditRow& row : std::exchange(rows_, {}))
        audit.add(std::move(row));
    recordOneByOne(std::exchange(results_, {}));
}

bool Recorder::recordHeld(TimePoint now)
{
    if (held_.empty() || now < heldUntil_)
        return false;
    recordOneByOne(std::exchange(held_, {}));
    return true;
}

void Recorder::recordOneByOne(std::vector<Result> results)
{
    std::vector<Result> locked;
    for (Result& result : results) {
        auto const isTenants = [&](const Result& other) { return other.user == result.user; };
        if (locked.size() >= nobodysFault)
            results_.push_back(std::move(result));
        else if (std::any_of(locked.begin(), locked.end(), isTenants))
            held_.push_back(std::move(result));
        else if (!recordAlone(result))
            locked.push_back(std::move(result));
    }
    for (Result& result : locked) // behind the others, for which it shall be tried first then
        held_.push_back(std::move(result));
    heldUntil_ = Clock::now() + holdFor;
}

// False when what is in the way passes: a lock, a full disk (or an app's trigger that says so), or a full queue of
// notifications, which only a commit finds.
bool Recorder::recordAlone(Result& result)
{
    for (bool whole : {true, false}) {
        if (!whole)
            result.body.clear();
        bool written = false;
        try {
            pg::Transaction transaction("pg_twilio: recording one order");
            transaction.lockBriefly();
            if (transaction.lockExtension())
                outbox::record({result});
            written = true;
            transaction.commit();
            break;
        } catch (const pg::Error& error) {
            pg::logError(error, "recording an order");
            if (isPassing(error) || (written && error.sqlstate() == ERRCODE_PROGRAM_LIMIT_EXCEEDED))
                return false;
        }
    }
    return true;
}

bool Recorder::isHeld(const TenantId& user) const
{
    return std::any_of(held_.begin(), held_.end(), [&](const Result& result) { return result.user == user; });
}

std::vector<TenantId> Recorder::heldTenants() const
{
    std::vector<TenantId> tenants;
    for (const Result& result : held_)
        tenants.push_back(result.user);
    return tenants;
}

} // namespace twilio

// Outcomes into results, by the kind of order.
#include "order_result.hpp"

#include "json_check.hpp"
#include "retry.hpp"
#include "settings.hpp"

namespace twilio {

namespace {

using outbox::Result;

template<typename... Cases>
struct Match : Cases... {
    using Cases::operator()...;
};
template<typename... Cases>
Match(Cases...) -> Match<Cases...>;

TimestampTz toTimestamp(TimePoint time)
{
    return GetCurrentTimestamp() + std::chrono::duration_cast<std::chrono::microseconds>(time - Clock::now()).count();
}

// The outcome that record_orders() takes, with what goes beside it.
void describe(const Outcome& outcome, const Order& order, Result& result)
{
    std::visit(Match{[&](const Sent& sent) {
                         result.outcome = "sent";
                         result.sid = sent.sid;
                     },
                     [&](const RetryAt& retry) {
                         // What Twilio did not take is tried until it expires, however often that is.
                         result.outcome =
                             order.attempts >= settings::maxAttempts && !order.expiresAt ? "expired" : "retry";
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

bool fitsDatabase(const std::string& body)
{
    return body.find('\0') == std::string::npos &&
           pg_verify_mbstr(PG_UTF8, body.data(), static_cast<int>(body.size()), true);
}

} // namespace

Result toResult(const Order& order, Outcome outcome, Reply& reply)
{
    if (!fitsDatabase(reply.body)) {
        reply.body.clear();
        outcome = interpret(reply, Clock::now(), order.attempts, random01());
    }
    Result result;
    describe(outcome, order, result);
    result.orderId = order.id;
    result.user = order.user;
    result.status = static_cast<int>(reply.status);
    result.at = GetCurrentTimestamp();
    if (reply.date != 0)
        result.twilioAt = time_t_to_timestamptz(reply.date);
    if (result.is("sent") || (reply.status >= 400 && looksComplete(reply.body)))
        result.body = reply.body;
    return result;
}

AuditRow toAuditRow(const Order& order, const Reply& reply, const Result& result)
{
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
    row.durationMs = static_cast<int>(reply.duration.count() / 1000);
    return row;
}

} // namespace twilio

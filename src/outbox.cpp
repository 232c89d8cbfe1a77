// Plans, arrays and rows of the functions in sql/orders.sql.
#include "outbox.hpp"

#include <algorithm>
#include <span>

#include "arrays.hpp"
#include "settings.hpp"
#include "statement.hpp"

namespace twilio::outbox {

namespace {

using pg::guarded;
using pg::intOrNull;
using pg::Statement;
using pg::textOrNull;
using pg::toArray;

constexpr std::size_t recordedAtOnce = 256 * 1024; // bytes: SQL takes ten times as much for what Twilio has said

// One row of the last result.
class Row {
public:
    explicit Row(std::uint64_t index) : tuple_(SPI_tuptable->vals[index]), descriptor_(SPI_tuptable->tupdesc) {}

    std::optional<Datum> value(int column) const
    {
        bool isNull = false;
        Datum const datum = SPI_getbinval(tuple_, descriptor_, column, &isNull);
        return isNull ? std::nullopt : std::optional(datum);
    }
    std::string string(int column) const
    {
        auto const datum = value(column);
        return datum ? std::string(pg::viewOf(guarded([&] { return PG_DETOAST_DATUM_PACKED(*datum); })))
                     : std::string();
    }
    TenantId user(int column) const { return TenantId::from(DatumGetUUIDP(*value(column))->data); }

private:
    HeapTuple tuple_;
    TupleDesc descriptor_;
};

Datum uuidOf(const TenantId& user)
{
    auto* uuid = static_cast<pg_uuid_t*>(palloc(sizeof(pg_uuid_t)));
    std::memcpy(uuid->data, user.bytes.data(), UUID_LEN);
    return UUIDPGetDatum(uuid);
}

std::optional<Datum> timeOrNull(TimestampTz time)
{
    return time == 0 ? std::nullopt : std::optional(TimestampTzGetDatum(time));
}

// By the clock on the wall. What is hardly a time any more, such as infinity, is as good as any that is later than all.
std::chrono::sys_time<std::chrono::microseconds> toTime(TimestampTz time)
{
    using namespace std::chrono;
    return sys_days(year(2000) / 1 / 1) + microseconds(std::clamp<TimestampTz>(time, INT64_MIN / 2, INT64_MAX / 2));
}

Order toOrder(const Row& row)
{
    Order order;
    order.id = DatumGetInt64(*row.value(1));
    order.user = row.user(2);
    order.kind = row.string(3);
    order.repeatable = DatumGetBool(*row.value(4));
    order.attempts = DatumGetInt32(*row.value(5));
    if (auto const expiresAt = row.value(6))
        order.expiresAt = toTime(DatumGetTimestampTz(*expiresAt));
    order.username = row.string(7);
    order.credentialKind = row.string(8);
    order.keyId = row.string(9);
    order.sealed = row.string(10); // a bytea is laid out like a text
    order.method = row.string(11);
    order.host = row.string(12);
    order.path = row.string(13);
    order.content = row.string(14);
    order.contentType = row.string(15);
    order.answerMembers = row.string(16);
    return order;
}

// So many from the first that their answers take no more memory than recordedAtOnce, but one at least.
std::span<const Result> nextPart(std::span<const Result> results)
{
    std::size_t bytes = 0;
    auto const full = std::find_if(results.begin(), results.end(), [&](const Result& result) {
        return (bytes += result.body.size()) > recordedAtOnce;
    });
    return results.first(std::max<std::size_t>(1, static_cast<std::size_t>(full - results.begin())));
}

void recordPart(std::span<const Result> results)
{
    static Statement statement("SELECT twilio_private.record_orders($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                               {INT8ARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
                                TEXTARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID});
    pg::MemoryScope const scope("results of orders");
    guarded([&] {
        Datum values[] = {
            toArray(results, INT8OID, [](const Result& r) { return std::optional(Int64GetDatum(r.orderId)); }),
            toArray(results, TEXTOID, [](const Result& r) { return textOrNull(r.outcome); }),
            toArray(results, INT4OID, [](const Result& r) { return intOrNull(r.status); }),
            toArray(results, INT4OID, [](const Result& r) { return intOrNull(r.errorCode); }),
            toArray(results, TEXTOID, [](const Result& r) { return textOrNull(r.errorMessage); }),
            toArray(results, TEXTOID, [](const Result& r) { return textOrNull(r.sid); }),
            toArray(results, TEXTOID, [](const Result& r) { return textOrNull(r.body); }),
            toArray(results, TIMESTAMPTZOID, [](const Result& r) { return timeOrNull(r.retryAt); }),
            toArray(results, TIMESTAMPTZOID, [](const Result& r) { return timeOrNull(r.at); }),
            toArray(results, TIMESTAMPTZOID, [](const Result& r) { return timeOrNull(r.twilioAt); }),
        };
        statement.run(values);
        SPI_freetuptable(SPI_tuptable);
    });
}

} // namespace

std::vector<Waiting> waitingTenants(TimePoint now)
{
    static Statement statement("SELECT user_id, next_due, rate_limit_per_second, max_in_flight"
                               " FROM twilio_private.waiting_tenants()",
                               {});
    guarded([] { statement.run(nullptr); });
    TimestampTz const sqlNow = GetCurrentTimestamp();
    std::vector<Waiting> tenants;
    for (std::uint64_t i = 0; i < SPI_processed; i++) {
        Row const row(i);
        auto const rate = row.value(3);
        auto const most = row.value(4);
        TimestampTz const due = DatumGetTimestampTz(*row.value(2));
        tenants.push_back({row.user(1),
                           TIMESTAMP_IS_NOEND(due) ? TimePoint::max() : now + std::chrono::microseconds(due - sqlNow),
                           due, rate ? DatumGetFloat8(*rate) : settings::rateLimitPerSecond,
                           most ? DatumGetInt32(*most) : settings::userMaxInFlight});
    }
    return tenants;
}

std::vector<Order> claim(const std::vector<Share>& shares)
{
    static Statement statement(
        "SELECT order_id, user_id, kind, repeatable, attempts, expires_at, username, credential_kind, key_id, sealed,"
        " method, host, path, content, content_type, answer_members FROM twilio_private.claim_orders($1, $2, $3)",
        {UUIDARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID});
    guarded([&] {
        Datum values[] = {
            toArray(shares, UUIDOID, [](const Share& share) { return std::optional(uuidOf(share.user)); }),
            toArray(shares, INT4OID, [](const Share& share) { return std::optional(Int32GetDatum(share.count)); }),
            toArray(shares, TIMESTAMPTZOID,
                    [](const Share& share) { return std::optional(TimestampTzGetDatum(share.dueSince)); }),
        };
        statement.run(values);
    });
    std::vector<Order> orders;
    orders.reserve(SPI_processed);
    for (std::uint64_t i = 0; i < SPI_processed; i++)
        orders.push_back(toOrder(Row(i)));
    guarded([] { SPI_freetuptable(SPI_tuptable); });
    return orders;
}

void record(const std::vector<Result>& results)
{
    for (std::span<const Result> rest = results; !rest.empty();) {
        auto const part = nextPart(rest);
        recordPart(part);
        rest = rest.subspan(part.size());
    }
}

void recover()
{
    static Statement statement("SELECT twilio_private.recover_orders()", {});
    guarded([] { statement.run(nullptr); });
}

void finishExpired()
{
    static Statement statement("SELECT twilio_private.finish_expired()", {});
    guarded([] { statement.run(nullptr); });
}

void release(const std::vector<std::int64_t>& orderIds)
{
    static Statement statement("SELECT twilio_private.release_orders($1)", {INT8ARRAYOID});
    guarded([&] {
        Datum values[] = {toArray(orderIds, INT8OID, [](std::int64_t id) { return std::optional(Int64GetDatum(id)); })};
        statement.run(values);
    });
}

} // namespace twilio::outbox

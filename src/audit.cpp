// Writes the audit log through twilio_private.record_requests (sql/audit.sql).
#include "audit.hpp"

#include "arrays.hpp"
#include "settings.hpp"
#include "statement.hpp"

namespace twilio {

namespace {

constexpr std::size_t mostKept = 20000;

void record(const std::vector<AuditRow>& rows)
{
    using pg::intOrNull;
    using pg::textOrNull;
    using pg::toArray;
    static pg::Statement statement("SELECT twilio_private.record_requests($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                                   {TIMESTAMPTZARRAYOID, UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
                                    TEXTARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, INT4ARRAYOID});
    Datum values[] = {
        toArray(rows, TIMESTAMPTZOID, [](const AuditRow& row) { return std::optional(TimestampTzGetDatum(row.at)); }),
        toArray(rows, UUIDOID, [](const AuditRow& row) { return std::optional(UUIDPGetDatum(&row.user)); }),
        toArray(rows, TEXTOID, [](const AuditRow& row) { return textOrNull(row.actor); }),
        toArray(rows, TEXTOID, [](const AuditRow& row) { return textOrNull(row.action); }),
        toArray(rows, TEXTOID, [](const AuditRow& row) { return textOrNull(row.object); }),
        toArray(rows, TEXTOID, [](const AuditRow& row) { return textOrNull(row.outcome); }),
        toArray(rows, INT4OID, [](const AuditRow& row) { return intOrNull(row.status); }),
        toArray(rows, INT4OID, [](const AuditRow& row) { return intOrNull(row.errorCode); }),
        toArray(rows, TEXTOID, [](const AuditRow& row) { return textOrNull(row.requestId); }),
        toArray(rows, INT4OID, [](const AuditRow& row) { return std::optional(Int32GetDatum(row.durationMs)); }),
    };
    statement.run(values);
}

// Without what could be a phone number: the query, and path segments that hold one.
std::string withoutNumbers(std::string_view path)
{
    std::string shown;
    path = path.substr(0, path.find('?'));
    while (!path.empty()) {
        auto const next = path.find('/', 1);
        std::string_view const segment = path.substr(0, next);
        bool const number = segment.rfind("/+", 0) == 0 || segment.rfind("/%2B", 0) == 0 ||
                            (segment.size() > 6 && segment.find_first_not_of("/0123456789") == std::string_view::npos);
        shown.append(number ? "/…" : segment);
        path = next == std::string_view::npos ? std::string_view() : path.substr(next);
    }
    return shown;
}

} // namespace

void AuditTrail::add(AuditRow row)
{
    rows_.push_back(std::move(row));
}

bool AuditTrail::write()
{
    if (rows_.empty())
        return true;
    try {
        pg::Transaction transaction("pg_twilio: writing the audit log");
        if (transaction.lockExtension())
            pg::guarded([&] {
                pg::commitLazily();
                record(rows_);
            });
        transaction.commit();
        rows_.clear();
        return true;
    } catch (const pg::Error& error) {
        pg::logError(error, "writing the audit log");
        if (rows_.size() > mostKept) {
            ereport(WARNING, (errmsg("twilio: %zu audit rows are given up", rows_.size())));
            rows_.clear();
        }
        return false;
    }
}

void AuditTrail::writeWithin(const std::vector<AuditRow>& rows)
{
    if (!rows.empty())
        pg::guarded([&] { record(rows); });
}

void logRequest(std::string_view method, std::string_view path, const Reply& reply)
{
    if (!settings::logRequests)
        return;
    std::string const outcome =
        reply.transport == Transport::answered ? std::to_string(reply.status) : auditOutcome(reply);
    auto const millis = std::chrono::duration_cast<std::chrono::milliseconds>(reply.duration).count();
    ereport(LOG, (errhidestmt(true), errmsg_internal("twilio: %.*s %s %s %ld ms %s", static_cast<int>(method.size()),
                                                     method.data(), withoutNumbers(path).c_str(), outcome.c_str(),
                                                     static_cast<long>(millis), reply.requestId.c_str())));
}

} // namespace twilio

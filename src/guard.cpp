// Transactions and error reports of the background workers.
#include "guard.hpp"

namespace twilio::pg {

void commitLazily()
{
    (void)set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

Transaction::Transaction(const char* activity)
{
    guarded([&] {
        SetCurrentStatementStartTimestamp();
        StartTransactionCommand();
        SPI_connect();
        PushActiveSnapshot(GetTransactionSnapshot());
        pgstat_report_activity(STATE_RUNNING, activity);
    });
}

bool Transaction::lockExtension()
{
    // Most times it is the extension of last time, so that one look, after the lock, is enough.
    static Oid extension = InvalidOid;
    return guarded([] {
        for (int tries = 0; tries < 2; tries++) {
            if (OidIsValid(extension))
                LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
            Oid const present = get_extension_oid("pg_twilio", true);
            if (present == extension)
                break;
            extension = present;
        }
        return OidIsValid(extension);
    });
}

void Transaction::commitLazily()
{
    guarded([] { pg::commitLazily(); });
}

void Transaction::commit()
{
    guarded([] {
        SPI_finish();
        PopActiveSnapshot();
        CommitTransactionCommand();
        pgstat_report_stat(false); // at most once a second; the rest when idle
        pgstat_report_activity(STATE_IDLE, nullptr);
    });
    open_ = false;
}

Transaction::~Transaction()
{
    if (!open_)
        return;
    try {
        guarded([] {
            AbortCurrentTransaction();
            pgstat_report_stat(true);
            pgstat_report_activity(STATE_IDLE, nullptr);
        });
    } catch (const Error&) {
        // An abort that fails leaves the process in no state to go on.
        proc_exit(1);
    }
}

void logError(const Error& error, const char* doing)
{
    const ErrorData* data = error.data();
    ereport(LOG, (errcode(data->sqlerrcode), errmsg_internal("twilio: %s failed: %s", doing, error.what()),
                  data->detail != nullptr ? errdetail_internal("%s", data->detail) : 0,
                  data->hint != nullptr ? errhint("%s", data->hint) : 0));
}

Datum toRow(FunctionCallInfo fcinfo, Datum* values, bool* nulls)
{
    TupleDesc descriptor = nullptr;
    if (get_call_result_type(fcinfo, nullptr, &descriptor) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls));
}

std::string_view viewOf(varlena* value)
{
    return {VARDATA_ANY(value), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(value))};
}

std::string toString(text* value)
{
    return std::string(viewOf(value));
}

Datum toDatum(std::string_view value)
{
    return PointerGetDatum(cstring_to_text_with_len(value.data(), static_cast<int>(value.size())));
}

Datum toDatum(const pg_uuid_t& uuid)
{
    auto* copy = static_cast<pg_uuid_t*>(palloc(sizeof(pg_uuid_t)));
    *copy = uuid;
    return UUIDPGetDatum(copy);
}

std::optional<pg_uuid_t> parseUuid(const std::string& text)
{
    try {
        return guarded([&] { return *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(text.c_str()))); });
    } catch (const Error& error) {
        if (error.sqlstate() != ERRCODE_INVALID_TEXT_REPRESENTATION)
            throw;
        return std::nullopt;
    }
}

} // namespace twilio::pg

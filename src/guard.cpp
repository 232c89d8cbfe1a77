// Transactions and error reports of the background workers.
#include "guard.hpp"

namespace twilio::pg {

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
    return guarded([] {
        Oid const extension = get_extension_oid("pg_twilio", true);
        if (!OidIsValid(extension))
            return false;
        LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
        return get_extension_oid("pg_twilio", true) == extension;
    });
}

void Transaction::commitLazily()
{
    guarded([] {
        (void)set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0,
                                false);
    });
}

void Transaction::commit()
{
    guarded([] {
        SPI_finish();
        PopActiveSnapshot();
        CommitTransactionCommand();
        pgstat_report_stat(true);
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

std::string toString(text* value)
{
    return {VARDATA_ANY(value), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(value))};
}

Datum toDatum(std::string_view value)
{
    return PointerGetDatum(cstring_to_text_with_len(value.data(), static_cast<int>(value.size())));
}

} // namespace twilio::pg

// Transactions and error reports of the background workers.
#include "guard.hpp"

namespace twilio::pg {

namespace {

// Of a transaction that begins during a shutdown.
constexpr int lastTransactionMs = 1000;

void setForTransaction(const char* name, const char* value)
{
    (void)set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

// What an app's deferred trigger has against one row, it says while that row is written, not at the commit, where it
// would undo all the others.
void raiseAtOnce()
{
    ConstraintsSetStmt all{};
    all.type = T_ConstraintsSetStmt;
    AfterTriggerSetState(&all);
}

} // namespace

volatile sig_atomic_t Transaction::isOpen_ = 0;

void commitLazily()
{
    setForTransaction("synchronous_commit", "off");
}

Transaction::Transaction(const char* activity) : Transaction()
{
    isOpen_ = 1;
    guarded([&] {
        if (ShutdownRequestPending)
            enable_timeout_after(STATEMENT_TIMEOUT, lastTransactionMs);
        SetCurrentStatementStartTimestamp();
        StartTransactionCommand();
        SPI_connect();
        PushActiveSnapshot(GetTransactionSnapshot());
        raiseAtOnce();
        pgstat_report_activity(STATE_RUNNING, activity);
    });
}

bool Transaction::lockExtension()
{
    // Most times it is the extension of last time, so that one look, after the lock, is enough. Another one is not
    // ours: its orders have the numbers of those that are under way.
    static Oid extension = InvalidOid;
    static bool isOurs = false;
    return guarded([] {
        while (!isOurs) {
            Oid const present = get_extension_oid("pg_twilio", true);
            if (!OidIsValid(present))
                return false;
            isOurs = present == extension;
            if (!isOurs)
                LockDatabaseObject(ExtensionRelationId, present, 0, AccessShareLock);
            extension = present;
        }
        LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
        return get_extension_oid("pg_twilio", true) == extension;
    });
}

void Transaction::commitDurably()
{
    guarded([] {
        if (synchronous_commit < SYNCHRONOUS_COMMIT_REMOTE_FLUSH)
            setForTransaction("synchronous_commit", "on");
    });
}

void Transaction::lockBriefly()
{
    guarded([] { setForTransaction("lock_timeout", "100ms"); });
}

void Transaction::commit()
{
    guarded([] {
        SPI_finish();
        PopActiveSnapshot();
        CommitTransactionCommand();
        // The postmaster died while the commit waited for a standby, which may never learn of it.
        if (ProcDiePending)
            proc_exit(1);
        pgstat_report_stat(false); // at most once a second; the rest when idle
        pgstat_report_activity(STATE_IDLE, nullptr);
    });
    close();
}

// What was meant to end this transaction is not to end what comes after it; and what it waited for may have taken for
// its own a wake-up that was meant for us.
void Transaction::close()
{
    open_ = false;
    isOpen_ = 0;
    disable_timeout(STATEMENT_TIMEOUT, false);
    QueryCancelPending = false;
    SetLatch(MyLatch);
}

void Transaction::onCancel(int signal)
{
    if (isOpen_)
        StatementCancelHandler(signal);
}

void Transaction::onShutdown(int signal)
{
    SignalHandlerForShutdownRequest(signal);
    onCancel(signal);
}

Transaction::~Transaction()
{
    if (!open_)
        return;
    close();
    try {
        guarded([] {
            AbortCurrentTransaction();
            pgstat_report_stat(true);
            pgstat_report_activity(STATE_IDLE, nullptr);
        });
    } catch (const std::exception&) {
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
    if (fcinfo->flinfo->fn_extra == nullptr) {
        MemoryContext const before = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
        TupleDesc descriptor = nullptr;
        if (get_call_result_type(fcinfo, nullptr, &descriptor) != TYPEFUNC_COMPOSITE)
            elog(ERROR, "return type must be a row type");
        fcinfo->flinfo->fn_extra = BlessTupleDesc(descriptor);
        MemoryContextSwitchTo(before);
    }
    return HeapTupleGetDatum(heap_form_tuple(static_cast<TupleDesc>(fcinfo->flinfo->fn_extra), values, nulls));
}

std::string_view viewOf(varlena* value)
{
    return {VARDATA_ANY(value), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(value))};
}

std::string_view argument(FunctionCallInfo fcinfo, int number)
{
    return viewOf(guarded([&] { return PG_GETARG_VARLENA_PP(number); }));
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

// What a view says of a user, read once for all rows of a statement: a trigger that runs for each row would start a
// query for each, which takes longer than all else that it does. Declared in sql/sender.sql.
#include "statement.hpp"

namespace twilio {

namespace {

// The row that was read last. It holds until this transaction writes something: each INSERT does, so the next one reads
// what others have committed since, too.
class UserRow {
public:
    explicit UserRow(Oid rowType) : statement_(rowOf(rowType), {UUIDOID}) {}

    // Valid until the next call.
    Datum of(const pg_uuid_t& user, bool& isNull)
    {
        if (!isRead_ || command_ != GetCurrentCommandId(false) || std::memcmp(&user_, &user, sizeof(user)) != 0)
            read(user);
        isNull = row_ == nullptr;
        return PointerGetDatum(row_);
    }

    void forget()
    {
        isRead_ = false;
        if (row_ != nullptr)
            pfree(std::exchange(row_, nullptr));
    }

private:
    static std::string rowOf(Oid rowType)
    {
        const char* const view = pg::guarded([&] {
            Oid const relation = get_typ_typrelid(rowType);
            return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)), get_rel_name(relation));
        });
        return std::string("SELECT v FROM ") + view + " v WHERE v.user_id = $1";
    }

    void read(const pg_uuid_t& user)
    {
        pg::guarded([&] {
            forget();
            Datum argument = UUIDPGetDatum(&user);
            SPI_connect();
            statement_.run(&argument);
            if (SPI_processed > 0) {
                bool isNull = false;
                Datum const row = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isNull);
                MemoryContext const ours = MemoryContextSwitchTo(TopTransactionContext);
                row_ = DatumGetHeapTupleHeaderCopy(row);
                MemoryContextSwitchTo(ours);
            }
            SPI_finish();
            user_ = user;
            command_ = GetCurrentCommandId(false);
            isRead_ = true;
        });
    }

    pg::Statement statement_;
    pg_uuid_t user_{};
    CommandId command_ = InvalidCommandId;
    HeapTupleHeader row_ = nullptr;
    bool isRead_ = false;
};

// By the type of their row; never given up, for functions that have been called point here.
std::map<Oid, UserRow>& rows()
{
    static auto& kept = *new std::map<Oid, UserRow>();
    return kept;
}

void forgetAll()
{
    for (auto& [type, row] : rows())
        row.forget();
}

void atEndOfTransaction(XactEvent, void*)
{
    forgetAll();
}

// What was read within it may have been its own doing.
void atEndOfSubtransaction(SubXactEvent, SubTransactionId, SubTransactionId, void*)
{
    forgetAll();
}

UserRow& rowFor(FunctionCallInfo fcinfo)
{
    if (fcinfo->flinfo->fn_extra == nullptr) {
        pg::watchTransactions<atEndOfTransaction, atEndOfSubtransaction>();
        Oid const type = pg::guarded([&] { return get_func_rettype(fcinfo->flinfo->fn_oid); });
        auto known = rows().find(type);
        if (known == rows().end())
            known = rows().emplace(type, UserRow(type)).first;
        fcinfo->flinfo->fn_extra = &known->second;
    }
    return *static_cast<UserRow*>(fcinfo->flinfo->fn_extra);
}

} // namespace

} // namespace twilio

using namespace twilio;

extern "C" {

// user_id; returns the row of the view that is its return type, null where the view has none of this user.
PG_FUNCTION_INFO_V1(pg_twilio_user_row);
Datum pg_twilio_user_row(PG_FUNCTION_ARGS)
{
    return pg::entry([&]() -> Datum { return rowFor(fcinfo).of(*PG_GETARG_UUID_P(0), fcinfo->isnull); });
}
}

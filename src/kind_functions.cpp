// The functions of the kinds of orders, which are known by name only: called by statements that are kept. EXECUTE in
// PL/pgSQL parses and plans its statement at each call, which for a single order costs a sixth of its claim. Declared
// in sql/orders.sql.
#include "statement.hpp"

namespace twilio {

namespace {

// Two for each kind of order.
using Kept = std::map<std::string, pg::Statement>;

std::string identifier(const std::string& name)
{
    return pg::guarded([&] { return quote_identifier(name.c_str()); });
}

bool isThere(const std::string& function, Oid argument)
{
    return pg::guarded([&] {
        return SearchSysCacheExists3(PROCNAMEARGSNSP, CStringGetDatum(function.c_str()),
                                     PointerGetDatum(buildoidvector(&argument, 1)),
                                     ObjectIdGetDatum(get_namespace_oid("twilio_private", false)));
    });
}

// The statement of `before`, the function's name and ($1).
pg::Statement& statementFor(Kept& kept, const char* before, FunctionCallInfo fcinfo)
{
    if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
        throw pg::Failure("22004", "a kind of order needs a function, and something to call it with");
    std::string function(pg::argument(fcinfo, 0));
    auto const known = kept.find(function);
    if (known != kept.end())
        return known->second;
    Oid const type = pg::guarded([&] { return get_fn_expr_argtype(fcinfo->flinfo, 1); });
    if (!isThere(function, type))
        throw pg::Failure("22023", "a function of a kind of order is not there", "It is called " + function + ".");
    pg::Statement statement(before + identifier(function) + "($1)", {type});
    return kept.emplace(std::move(function), std::move(statement)).first->second;
}

// The first column of its first row, in the memory of the caller; null where there is none.
Datum valueOf(pg::Statement& statement, FunctionCallInfo fcinfo)
{
    return pg::guarded([&] {
        Datum argument = PG_GETARG_DATUM(1);
        SPI_connect();
        statement.run(&argument);
        TupleDesc const row = SPI_tuptable->tupdesc;
        Datum value = 0;
        fcinfo->isnull = true;
        if (SPI_processed > 0)
            value = SPI_getbinval(SPI_tuptable->vals[0], row, 1, &fcinfo->isnull);
        if (!fcinfo->isnull)
            value = SPI_datumTransfer(value, TupleDescAttr(row, 0)->attbyval, TupleDescAttr(row, 0)->attlen);
        SPI_finish();
        return value;
    });
}

} // namespace

} // namespace twilio

using namespace twilio;

extern "C" {

// function, orders
PG_FUNCTION_INFO_V1(pg_twilio_requests_of);
Datum pg_twilio_requests_of(PG_FUNCTION_ARGS)
{
    return pg::entry([&]() -> Datum {
        static auto& kept = *new Kept();
        constexpr auto before = "SELECT array_agg(ROW(order_id, method, host, path, content)"
                                "::twilio_private.order_request) FROM twilio_private.";
        return valueOf(statementFor(kept, before, fcinfo), fcinfo);
    });
}

// function, results
PG_FUNCTION_INFO_V1(pg_twilio_results_to);
Datum pg_twilio_results_to(PG_FUNCTION_ARGS)
{
    return pg::entry([&]() -> Datum {
        static auto& kept = *new Kept();
        valueOf(statementFor(kept, "SELECT twilio_private.", fcinfo), fcinfo);
        fcinfo->isnull = false;
        PG_RETURN_VOID();
    });
}
}

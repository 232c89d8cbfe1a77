// Statements that SQL puts together, kept: EXECUTE in PL/pgSQL parses and plans its statement at each call, which for a
// single order costs a sixth of its claim. Declared in sql/orders.sql.
#include "statement.hpp"

namespace twilio {

namespace {

// One for each text and type of argument, of which there are two for each kind of order.
pg::Statement& keptStatement(std::string_view sql, Oid argument)
{
    static auto& kept = *new std::map<std::pair<std::string, Oid>, pg::Statement>();
    std::pair<std::string, Oid> key(sql, argument);
    auto const known = kept.find(key);
    if (known != kept.end())
        return known->second;
    pg::Statement statement(key.first, {argument});
    return kept.emplace(std::move(key), std::move(statement)).first->second;
}

// The first column of the first row, in the memory of the caller.
Datum valueOf(FunctionCallInfo fcinfo, pg::Statement& statement, Datum argument)
{
    return pg::guarded([&] {
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

// statement, with $1 for the argument; argument
PG_FUNCTION_INFO_V1(pg_twilio_run_kept);
Datum pg_twilio_run_kept(PG_FUNCTION_ARGS)
{
    return pg::entry([&]() -> Datum {
        if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
            throw pg::Failure("22004", "There is no statement to run, or nothing to run it with");
        Oid const type = get_fn_expr_argtype(fcinfo->flinfo, 1);
        return valueOf(fcinfo, keptStatement(pg::argument(fcinfo, 0), type), PG_GETARG_DATUM(1));
    });
}
}

// What SQL can call about texts on their way to Twilio: forms and segments. Declared in sql/engine.sql.
#include "form.hpp"
#include "guard.hpp"
#include "segments.hpp"

namespace twilio {

namespace {

// Pairs of a text[]; a pair whose value is null is left out.
Parameters pairsOf(ArrayType* array)
{
    Datum* elements = nullptr;
    bool* nulls = nullptr;
    int count = 0;
    pg::guarded([&] { deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count); });
    if (count % 2 != 0)
        throw pg::Failure("22023", "form_encode takes names and values in turn");
    Parameters pairs;
    for (int i = 0; i < count; i += 2)
        if (!nulls[i] && !nulls[i + 1])
            pairs.emplace_back(pg::toString(DatumGetTextPP(elements[i])),
                               pg::toString(DatumGetTextPP(elements[i + 1])));
    return pairs;
}

} // namespace

} // namespace twilio

using namespace twilio;

extern "C" {

PG_FUNCTION_INFO_V1(pg_twilio_form_encode);
Datum pg_twilio_form_encode(PG_FUNCTION_ARGS)
{
    return pg::entry([&]() -> Datum { return pg::toDatum(encodeForm(pairsOf(PG_GETARG_ARRAYTYPE_P(0)))); });
}

PG_FUNCTION_INFO_V1(pg_twilio_sms_segments);
Datum pg_twilio_sms_segments(PG_FUNCTION_ARGS)
{
    return pg::entry([&]() -> Datum {
        Segments const counted = countSegments(pg::argument(fcinfo, 0));
        return pg::guarded([&] {
            Datum values[] = {pg::toDatum(counted.gsm7 ? "GSM-7" : "UCS-2"), Int32GetDatum(counted.units),
                              Int32GetDatum(counted.segments), Int32GetDatum(counted.utf16)};
            bool nulls[4] = {};
            return pg::toRow(fcinfo, values, nulls);
        });
    });
}
}

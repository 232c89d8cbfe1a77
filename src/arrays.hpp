// C++ vectors and spans as PostgreSQL arrays, for statements that work on whole batches.
// To be called inside guarded(); the arrays live in the current memory context.
#pragma once

#include "guard.hpp"

namespace twilio::pg {

template<typename Rows, typename ToElement>
Datum toArray(const Rows& rows, Oid type, ToElement&& toElement)
{
    std::int16_t length = 0;
    bool byValue = false;
    char alignment = 0;
    get_typlenbyvalalign(type, &length, &byValue, &alignment);
    auto count = static_cast<int>(rows.size());
    auto* values = static_cast<Datum*>(palloc(sizeof(Datum) * (count + 1)));
    auto* nulls = static_cast<bool*>(palloc(sizeof(bool) * (count + 1)));
    for (int i = 0; i < count; i++) {
        std::optional<Datum> const element = toElement(rows[i]);
        nulls[i] = !element;
        values[i] = element.value_or(0);
    }
    int lower = 1;
    return PointerGetDatum(construct_md_array(values, nulls, 1, &count, &lower, type, length, byValue, alignment));
}

inline std::optional<Datum> textOrNull(std::string_view value)
{
    if (value.empty())
        return std::nullopt;
    return toDatum(value);
}

inline std::optional<Datum> intOrNull(int value)
{
    if (value == 0)
        return std::nullopt;
    return Int32GetDatum(value);
}

} // namespace twilio::pg

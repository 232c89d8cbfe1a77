// What SQL can call about texts on their way to and from Twilio: forms, segments
// and the signature of a webhook. Declared in sql/engine.sql.
#include "form.hpp"
#include "guard.hpp"
#include "secrets.hpp"
#include "segments.hpp"
#include "signature.hpp"

namespace twilio {

namespace {

std::string_view viewOf(varlena* value)
{
    return {VARDATA_ANY(value), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(value))};
}

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

// A value as text of the database: what is no valid UTF-8, and NUL, becomes U+FFFD.
std::string asUtf8(std::string_view bytes)
{
    constexpr std::string_view replacement = "\xef\xbf\xbd";
    std::string text;
    text.reserve(bytes.size());
    while (!bytes.empty()) {
        int const valid = pg_encoding_verifymbstr(PG_UTF8, bytes.data(), static_cast<int>(bytes.size()));
        text.append(bytes.substr(0, static_cast<std::size_t>(valid)));
        bytes.remove_prefix(static_cast<std::size_t>(valid));
        if (bytes.empty())
            break;
        text.append(replacement);
        bytes.remove_prefix(1);
    }
    return text;
}

Datum toServerText(const std::string& utf8)
{
    char* text = pg_any_to_server(utf8.data(), static_cast<int>(utf8.size()), PG_UTF8);
    return text == utf8.data() ? pg::toDatum(utf8) : CStringGetTextDatum(text);
}

void returnPairs(FunctionCallInfo fcinfo, const Parameters& pairs)
{
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    pg::guarded([&] { pg::beginMaterialized(fcinfo); });
    for (std::size_t i = 0; i < pairs.size(); i++) {
        std::string const name = asUtf8(pairs[i].first);
        std::string const value = asUtf8(pairs[i].second);
        pg::guarded([&] {
            Datum values[] = {Int32GetDatum(static_cast<int>(i + 1)), toServerText(name), toServerText(value)};
            bool nulls[] = {false, false, false};
            tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
        });
    }
}

bool isForm(std::string_view contentType)
{
    constexpr std::string_view form = "application/x-www-form-urlencoded";
    return contentType.size() >= form.size() && pg_strncasecmp(contentType.data(), form.data(), form.size()) == 0;
}

std::vector<std::string> elementsOf(ArrayType* array, Oid type)
{
    Datum* elements = nullptr;
    bool* nulls = nullptr;
    int count = 0;
    pg::guarded([&] { deconstruct_array(array, type, -1, false, TYPALIGN_INT, &elements, &nulls, &count); });
    std::vector<std::string> texts;
    for (int i = 0; i < count; i++)
        texts.push_back(nulls[i] ? std::string() : pg::toString(DatumGetTextPP(elements[i])));
    return texts;
}

// Is the webhook signed with one of the user's auth tokens? One that does not open is passed over.
bool isSigned(const secrets::Owner& owner, const std::vector<std::string>& keyIds,
              const std::vector<std::string>& sealed, const Webhook& webhook, std::string_view signature)
{
    bool found = false;
    for (std::size_t i = 0; i < std::min(keyIds.size(), sealed.size()); i++) {
        try {
            Secret const token = secrets::open(owner, keyIds[i], sealed[i]);
            found = validWebhook(token.view(), webhook, signature) || found;
        } catch (const pg::Failure&) {
            continue;
        }
    }
    return found;
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

PG_FUNCTION_INFO_V1(pg_twilio_decode_form);
Datum pg_twilio_decode_form(PG_FUNCTION_ARGS)
{
    return pg::entry([&]() -> Datum {
        returnPairs(fcinfo, decodeForm(viewOf(PG_GETARG_BYTEA_PP(0))));
        PG_RETURN_VOID();
    });
}

// user_id, key_ids, sealeds, url, body, content_type, method, signature
PG_FUNCTION_INFO_V1(pg_twilio_webhook_valid);
Datum pg_twilio_webhook_valid(PG_FUNCTION_ARGS)
{
    return pg::entry([&]() -> Datum {
        secrets::Owner const owner{*PG_GETARG_UUID_P(0), "auth_token"};
        auto const keyIds = elementsOf(PG_GETARG_ARRAYTYPE_P(1), TEXTOID);
        auto const sealed = elementsOf(PG_GETARG_ARRAYTYPE_P(2), BYTEAOID);
        std::string_view const body = viewOf(PG_GETARG_BYTEA_PP(4));
        bool const get = viewOf(PG_GETARG_TEXT_PP(6)) == "GET";
        Parameters const parameters = !get && isForm(viewOf(PG_GETARG_TEXT_PP(5))) ? decodeForm(body) : Parameters();
        Webhook const webhook{viewOf(PG_GETARG_TEXT_PP(3)), body, parameters};
        PG_RETURN_BOOL(isSigned(owner, keyIds, sealed, webhook, viewOf(PG_GETARG_TEXT_PP(7))));
    });
}

PG_FUNCTION_INFO_V1(pg_twilio_sms_segments);
Datum pg_twilio_sms_segments(PG_FUNCTION_ARGS)
{
    return pg::entry([&]() -> Datum {
        Segments const counted = countSegments(viewOf(PG_GETARG_TEXT_PP(0)));
        return pg::guarded([&] {
            Datum values[] = {pg::toDatum(counted.gsm7 ? "GSM-7" : "UCS-2"), Int32GetDatum(counted.units),
                              Int32GetDatum(counted.segments), Int32GetDatum(counted.utf16)};
            bool nulls[4] = {};
            return pg::toRow(fcinfo, values, nulls);
        });
    });
}
}

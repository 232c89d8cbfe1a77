// What SQL can call about a webhook: what it says, and whether an account's auth token signed it. Declared in
// sql/engine.sql.
//
// A backend opens an auth token once and keeps what signs like it, not the token itself (signature.hpp), so that a
// webhook costs no decryption.
#include "form.hpp"
#include "guard.hpp"
#include "json_scan.hpp"
#include "secrets.hpp"
#include "signature.hpp"
#include "utf8.hpp"

namespace twilio {

namespace {

// ---- reading ---------------------------------------------------------------------------------------------------

bool isForm(std::string_view contentType)
{
    constexpr std::string_view form = "application/x-www-form-urlencoded";
    return contentType.size() >= form.size() && pg_strncasecmp(contentType.data(), form.data(), form.size()) == 0;
}

JsonbValue jsonString(const std::string& text)
{
    JsonbValue value;
    value.type = jbvString;
    value.val.string.val = const_cast<char*>(text.data());
    value.val.string.len = static_cast<int>(text.size());
    return value;
}

// Names that occur once have a string, others an array of all their values in order.
Datum toJsonb(const Parameters& parameters)
{
    Parameters sorted;
    sorted.reserve(parameters.size());
    for (const auto& [name, value] : parameters)
        sorted.emplace_back(storable(name), storable(value));
    std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    const auto* const end = sorted.data() + sorted.size();

    return pg::guarded([&] {
        JsonbParseState* state = nullptr;
        pushJsonbValue(&state, WJB_BEGIN_OBJECT, nullptr);
        for (const auto* pair = sorted.data(); pair != end;) {
            const auto* const next = std::find_if(pair, end, [&](const auto& p) { return p.first != pair->first; });
            bool const repeated = next - pair > 1;
            JsonbValue text = jsonString(pair->first);
            pushJsonbValue(&state, WJB_KEY, &text);
            if (repeated)
                pushJsonbValue(&state, WJB_BEGIN_ARRAY, nullptr);
            for (; pair != next; pair++) {
                text = jsonString(pair->second);
                pushJsonbValue(&state, repeated ? WJB_ELEM : WJB_VALUE, &text);
            }
            if (repeated)
                pushJsonbValue(&state, WJB_END_ARRAY, nullptr);
        }
        return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, nullptr)));
    });
}

// The JSON that these bytes are; an empty object if they are none that the database can store.
Datum parseJson(std::string_view bytes)
{
    try {
        return pg::guarded([&] {
            pg_verify_mbstr(PG_UTF8, bytes.data(), static_cast<int>(bytes.size()), false);
            char* text = pnstrdup(bytes.data(), bytes.size());
            return DirectFunctionCall1(jsonb_in, CStringGetDatum(text));
        });
    } catch (const pg::Error& error) {
        int const category = ERRCODE_TO_CATEGORY(error.sqlstate());
        if (category != ERRCODE_DATA_EXCEPTION && category != ERRCODE_PROGRAM_LIMIT_EXCEEDED)
            throw;
    }
    return toJsonb({});
}

std::optional<std::string> textOf(const Parameters& parameters, std::string_view name)
{
    const std::string* value = findParameter(parameters, name);
    return value == nullptr ? std::nullopt : std::optional(storable(*value));
}

// The body's parameters, if it is a form.
Parameters formOf(std::string_view body, std::string_view contentType, std::string_view method)
{
    return method != "GET" && isForm(contentType) ? decodeForm(body) : Parameters();
}

// account_sid, message_id, parameters
Datum readWebhook(FunctionCallInfo fcinfo)
{
    std::string_view const url = pg::argument(fcinfo, 0);
    std::string_view const body = pg::argument(fcinfo, 1);
    std::string_view const contentType = pg::argument(fcinfo, 2);
    std::string_view const method = pg::argument(fcinfo, 3);

    std::size_t const mark = url.find('?');
    Parameters const query = mark == url.npos ? Parameters() : decodeForm(url.substr(mark + 1));
    bool const json = method != "GET" && !isForm(contentType);
    Parameters const form = formOf(body, contentType, method);
    const Parameters& said = method == "GET" ? query : form;

    auto account = json ? topLevelString(body, "AccountSid") : textOf(said, "AccountSid");
    if (!account)
        account = json ? topLevelString(body, "account_sid") : textOf(said, "account_sid");
    if (!account)
        account = textOf(query, "AccountSid");
    const std::string* const m = findParameter(query, "m");
    auto const messageId = m == nullptr ? std::nullopt : pg::parseUuid(*m);
    Datum const parameters = json ? parseJson(body) : toJsonb(said);

    return pg::guarded([&] {
        Datum values[3] = {0, 0, parameters};
        bool nulls[3] = {!account, !messageId, false};
        if (account)
            values[0] = pg::toDatum(*account);
        if (messageId)
            values[1] = pg::toDatum(*messageId);
        return pg::toRow(fcinfo, values, nulls);
    });
}

// ---- signatures ------------------------------------------------------------------------------------------------

constexpr std::size_t mostKeys = 1000;

// Kept by the sealed value, so that one that is replaced or sealed anew is never taken for the former. Opens the
// token where it is new. Never destroyed: OpenSSL is gone before this process' static objects are.
const SigningKey& signingKey(const secrets::Owner& owner, std::string_view keyId, std::string_view sealed)
{
    static auto& keys = *new std::unordered_map<std::string, SigningKey>();
    std::string const name = secrets::nameOf(owner, keyId, sealed);
    if (auto const known = keys.find(name); known != keys.end())
        return known->second;
    SigningKey key(secrets::open(owner, keyId, sealed).view());
    if (keys.size() >= mostKeys)
        keys.clear();
    return keys.emplace(name, std::move(key)).first->second;
}

// A backend says each reason once: anybody may send webhooks, and they must not fill the log. All is in the message,
// for PostgREST's role logs no more (docs/deploy.md).
void logUnopened(const pg::Failure& failure)
{
    static auto& said = *new std::unordered_set<std::string>();
    std::string const why = failure.what() + (": " + failure.detail);
    if (said.insert(why).second)
        ereport(LOG, (errcode(failure.code()), errmsg_internal("twilio: a webhook cannot be checked: %s", why.c_str()),
                      errhint("%s", failure.hint.c_str())));
}

} // namespace

} // namespace twilio

using namespace twilio;

extern "C" {

PG_FUNCTION_INFO_V1(pg_twilio_read_webhook);
Datum pg_twilio_read_webhook(PG_FUNCTION_ARGS)
{
    return pg::entry([&]() -> Datum { return readWebhook(fcinfo); });
}

// user_id, key_id, sealed, url, body, content_type, method, signature
PG_FUNCTION_INFO_V1(pg_twilio_webhook_valid);
Datum pg_twilio_webhook_valid(PG_FUNCTION_ARGS)
{
    return pg::entry([&]() -> Datum {
        const auto argument = [&](int number) { return pg::argument(fcinfo, number); };
        std::string_view const body = argument(4);
        Parameters const form = formOf(body, argument(5), argument(6));
        try {
            secrets::Owner const owner{*PG_GETARG_UUID_P(0), "auth_token"};
            const SigningKey& key = signingKey(owner, argument(1), argument(2));
            PG_RETURN_BOOL(validWebhook(key, {argument(3), body, form}, argument(7)));
        } catch (const pg::Failure& failure) { // a token that does not open signs nothing
            logUnopened(failure);
            PG_RETURN_BOOL(false);
        }
    });
}
}

// What SQL can call: each function is one entry(). Declared, commented and
// granted in sql/engine.sql.
#include "ask.hpp"
#include "guard.hpp"
#include "json_scan.hpp"
#include "lifecycle.hpp"
#include "notices.hpp"
#include "secrets.hpp"
#include "settings.hpp"
#include "shared.hpp"
#include "stash.hpp"
#include "verification.hpp"

namespace twilio {

namespace {

Datum sealedRow(FunctionCallInfo fcinfo, const std::optional<secrets::Sealed>& sealed)
{
    return pg::guarded([&] {
        bool nulls[2] = {!sealed, !sealed};
        Datum values[2] = {};
        if (sealed) {
            values[0] = pg::toDatum(sealed->keyId);
            values[1] = pg::toDatum(sealed->bytes); // a bytea is laid out like a text
        }
        return pg::toRow(fcinfo, values, nulls);
    });
}

// Empty where there is no claim. One that is no text is a claim all the same: it names nobody.
std::string claimedSubject()
{
    const char* claims = GetConfigOption("request.jwt.claims", true, false);
    if (claims == nullptr || *claims == '\0')
        return {};
    if (auto const subject = topLevelString(claims, "sub"))
        return *subject;
    return onlyMembers(claims, "sub") == "{}" ? "" : "nobody";
}

std::optional<pg_uuid_t> claimedUser()
{
    auto const source = static_cast<settings::Identity>(settings::identity);
    std::string subject;
    if (source == settings::Identity::jwt || source == settings::Identity::automatic)
        subject = claimedSubject();
    if (source == settings::Identity::setting || (source == settings::Identity::automatic && subject.empty()))
        subject = settings::userId;
    return subject.empty() ? std::nullopt : pg::parseUuid(subject);
}

// The user id that the administrator has mapped the login role to.
std::optional<pg_uuid_t> mappedUser()
{
    return pg::guarded([] {
        // Not by LookupFuncName(), which asks whether the caller may use the schema.
        Oid const id = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum("mapped_user_id"),
                                       PointerGetDatum(buildoidvector(nullptr, 0)),
                                       ObjectIdGetDatum(get_namespace_oid("twilio_private", false)));
        FmgrInfo function;
        fmgr_info(id, &function);
        LOCAL_FCINFO(call, 0);
        InitFunctionCallInfoData(*call, &function, 0, InvalidOid, nullptr, nullptr);
        Datum const user = FunctionCallInvoke(call);
        return call->isnull ? std::nullopt : std::optional(*DatumGetUUIDP(user));
    });
}

const char* sourceName()
{
    switch (static_cast<settings::Identity>(settings::identity)) {
    case settings::Identity::automatic:
        return "auto";
    case settings::Identity::jwt:
        return "jwt";
    case settings::Identity::setting:
        return "setting";
    case settings::Identity::role:
        return "role";
    }
    return "";
}

std::string stateName(const shared::Worker* worker)
{
    if (worker == nullptr)
        return "starting";
    switch (worker->state) {
    case shared::WorkerState::none:
    case shared::WorkerState::starting:
    case shared::WorkerState::absent:
        return "starting";
    case shared::WorkerState::running:
        return "running";
    case shared::WorkerState::paused:
        return std::string("paused: ") + worker->note;
    case shared::WorkerState::no_room:
        return "no worker slot";
    }
    return "";
}

// running, pid, started_at, in_flight, asks_answered, sent, failed, last_error, last_error_at, state
Datum workerRow(FunctionCallInfo fcinfo)
{
    shared::Worker const* worker = nullptr;
    std::string state = "not preloaded";
    std::string lastError;
    pid_t pid = 0;
    TimestampTz startedAt = 0;
    TimestampTz lastErrorAt = 0;
    if (shared::state != nullptr) {
        shared::Locked lock(LW_SHARED);
        worker = shared::find(MyDatabaseId);
        state = stateName(worker);
        if (worker != nullptr) {
            lastError = worker->lastError;
            pid = worker->pid;
            startedAt = worker->startedAt;
            lastErrorAt = worker->lastErrorAt;
        }
    }
    return pg::guarded([&] {
        Datum values[10] = {};
        bool nulls[10] = {};
        bool const up = worker != nullptr && pid != 0;
        values[0] = BoolGetDatum(up && state == "running");
        values[1] = Int32GetDatum(pid);
        values[2] = TimestampTzGetDatum(startedAt);
        nulls[1] = nulls[2] = !up;
        values[3] = Int32GetDatum(worker == nullptr ? 0 : static_cast<int>(worker->counters.inFlight));
        values[4] = Int64GetDatum(worker == nullptr ? 0 : static_cast<std::int64_t>(worker->counters.asksAnswered));
        values[5] = Int64GetDatum(worker == nullptr ? 0 : static_cast<std::int64_t>(worker->counters.sent));
        values[6] = Int64GetDatum(worker == nullptr ? 0 : static_cast<std::int64_t>(worker->counters.failed));
        nulls[7] = nulls[8] = lastError.empty();
        values[7] = pg::toDatum(lastError);
        values[8] = TimestampTzGetDatum(lastErrorAt);
        values[9] = pg::toDatum(state);
        return pg::toRow(fcinfo, values, nulls);
    });
}

// Random bytes, drawn from the system in larger portions. A process that was forked meanwhile draws its own.
void drawRandom(unsigned char* into, std::size_t count)
{
    static std::array<unsigned char, 1024> portion;
    static std::size_t used = portion.size();
    static pid_t owner = 0;
    if (owner != MyProcPid || used + count > portion.size()) {
        if (!pg_strong_random(portion.data(), portion.size()))
            throw pg::Failure("XX000", "no random bytes are to be had");
        used = 0;
        owner = MyProcPid;
    }
    std::memcpy(into, portion.data() + used, count);
    used += count;
}

// RFC 9562, version 7: 48 bits of milliseconds, then 12 bits of the fraction of
// the millisecond so that rows of one statement keep their order, then chance.
pg_uuid_t uuidV7()
{
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    static std::uint64_t last = 0;
    std::uint64_t ticks =
        static_cast<std::uint64_t>(now.tv_sec) * 4096000 + static_cast<std::uint64_t>(now.tv_nsec) * 4096 / 1000000;
    last = ticks = std::max(ticks, last + 1);
    std::uint64_t const millis = ticks >> 12;
    pg_uuid_t uuid;
    drawRandom(uuid.data + 8, UUID_LEN - 8);
    for (int i = 0; i < 6; i++)
        uuid.data[i] = static_cast<unsigned char>(millis >> (40 - 8 * i));
    uuid.data[6] = static_cast<unsigned char>(0x70 | ((ticks >> 8) & 0x0f));
    uuid.data[7] = static_cast<unsigned char>(ticks);
    uuid.data[8] = static_cast<unsigned char>(0x80 | (uuid.data[8] & 0x3f));
    return uuid;
}

} // namespace

} // namespace twilio

using namespace twilio;

extern "C" {

PG_FUNCTION_INFO_V1(pg_twilio_identity_source);
Datum pg_twilio_identity_source(PG_FUNCTION_ARGS)
{
    (void)fcinfo;
    return pg::entry([]() -> Datum { return pg::toDatum(sourceName()); });
}

PG_FUNCTION_INFO_V1(pg_twilio_current_user_id);
Datum pg_twilio_current_user_id(PG_FUNCTION_ARGS)
{
    return pg::entry([&]() -> Datum {
        auto const user =
            settings::identity == static_cast<int>(settings::Identity::role) ? mappedUser() : claimedUser();
        if (!user)
            PG_RETURN_NULL();
        return pg::toDatum(*user);
    });
}

PG_FUNCTION_INFO_V1(pg_twilio_stash_clear);
Datum pg_twilio_stash_clear(PG_FUNCTION_ARGS)
{
    (void)fcinfo;
    return pg::entry([]() -> Datum {
        stash::clear();
        PG_RETURN_VOID();
    });
}

PG_FUNCTION_INFO_V1(pg_twilio_stash_put);
Datum pg_twilio_stash_put(PG_FUNCTION_ARGS)
{
    return pg::entry([&]() -> Datum {
        stash::put({*PG_GETARG_UUID_P(0), pg::argument(fcinfo, 1)}, pg::argument(fcinfo, 2), PG_GETARG_BOOL(3));
        PG_RETURN_VOID();
    });
}

PG_FUNCTION_INFO_V1(pg_twilio_stash_take);
Datum pg_twilio_stash_take(PG_FUNCTION_ARGS)
{
    return pg::entry([&]() -> Datum {
        return sealedRow(fcinfo, stash::take({*PG_GETARG_UUID_P(0), pg::argument(fcinfo, 1)}));
    });
}

PG_FUNCTION_INFO_V1(pg_twilio_reseal);
Datum pg_twilio_reseal(PG_FUNCTION_ARGS)
{
    return pg::entry([&]() -> Datum {
        secrets::Owner const owner{*PG_GETARG_UUID_P(0), pg::argument(fcinfo, 1)};
        Secret const secret = secrets::open(owner, pg::argument(fcinfo, 2), pg::argument(fcinfo, 3));
        return sealedRow(fcinfo, secrets::seal(owner, secret));
    });
}

PG_FUNCTION_INFO_V1(pg_twilio_current_key_id);
Datum pg_twilio_current_key_id(PG_FUNCTION_ARGS)
{
    (void)fcinfo;
    return pg::entry([]() -> Datum { return pg::toDatum(secrets::keyRing().first().id); });
}

PG_FUNCTION_INFO_V1(pg_twilio_has_key);
Datum pg_twilio_has_key(PG_FUNCTION_ARGS)
{
    return pg::entry(
        [&]() -> Datum { return BoolGetDatum(secrets::keyRing().find(pg::argument(fcinfo, 0)) != nullptr); });
}

PG_FUNCTION_INFO_V1(pg_twilio_add_key);
Datum pg_twilio_add_key(PG_FUNCTION_ARGS)
{
    (void)fcinfo;
    return pg::entry([]() -> Datum { return pg::toDatum(secrets::addKeyToFile()); });
}

PG_FUNCTION_INFO_V1(pg_twilio_permit_verification);
Datum pg_twilio_permit_verification(PG_FUNCTION_ARGS)
{
    return pg::entry([&]() -> Datum {
        pg::guarded([&] { verification::permit(*PG_GETARG_UUID_P(0)); });
        PG_RETURN_VOID();
    });
}

PG_FUNCTION_INFO_V1(pg_twilio_take_verification_permit);
Datum pg_twilio_take_verification_permit(PG_FUNCTION_ARGS)
{
    return pg::entry(
        [&]() -> Datum { return BoolGetDatum(verification::takePermit(*PG_GETARG_UUID_P(0), PG_GETARG_BOOL(1))); });
}

PG_FUNCTION_INFO_V1(pg_twilio_end_verification);
Datum pg_twilio_end_verification(PG_FUNCTION_ARGS)
{
    (void)fcinfo;
    return pg::entry([]() -> Datum {
        verification::end();
        PG_RETURN_VOID();
    });
}

PG_FUNCTION_INFO_V1(pg_twilio_ask);
Datum pg_twilio_ask(PG_FUNCTION_ARGS)
{
    return pg::entry([&]() -> Datum { return ask::exchange(fcinfo); });
}

PG_FUNCTION_INFO_V1(pg_twilio_await_audit);
Datum pg_twilio_await_audit(PG_FUNCTION_ARGS)
{
    (void)fcinfo;
    return pg::entry([]() -> Datum {
        ask::awaitAudit();
        PG_RETURN_VOID();
    });
}

PG_FUNCTION_INFO_V1(pg_twilio_ask_deadline);
Datum pg_twilio_ask_deadline(PG_FUNCTION_ARGS)
{
    (void)fcinfo;
    return pg::entry([]() -> Datum { return TimestampTzGetDatum(ask::deadline()); });
}

PG_FUNCTION_INFO_V1(pg_twilio_uuid_v7);
Datum pg_twilio_uuid_v7(PG_FUNCTION_ARGS)
{
    (void)fcinfo;
    return pg::entry([]() -> Datum { return pg::toDatum(uuidV7()); });
}

PG_FUNCTION_INFO_V1(pg_twilio_system_identifier);
Datum pg_twilio_system_identifier(PG_FUNCTION_ARGS)
{
    (void)fcinfo;
    return Int64GetDatum(static_cast<std::int64_t>(GetSystemIdentifier()));
}

PG_FUNCTION_INFO_V1(pg_twilio_was_cut_off_long_ago);
Datum pg_twilio_was_cut_off_long_ago(PG_FUNCTION_ARGS)
{
    (void)fcinfo;
    return BoolGetDatum(shared::state != nullptr && shared::state->wasCutOffLongAgo);
}

PG_FUNCTION_INFO_V1(pg_twilio_database_oid);
Datum pg_twilio_database_oid(PG_FUNCTION_ARGS)
{
    (void)fcinfo;
    return ObjectIdGetDatum(MyDatabaseId);
}

PG_FUNCTION_INFO_V1(pg_twilio_worker_stats);
Datum pg_twilio_worker_stats(PG_FUNCTION_ARGS)
{
    return pg::entry([&]() -> Datum { return workerRow(fcinfo); });
}

PG_FUNCTION_INFO_V1(pg_twilio_wake_at_commit);
Datum pg_twilio_wake_at_commit(PG_FUNCTION_ARGS)
{
    (void)fcinfo;
    lifecycle::ordersQueued();
    return PointerGetDatum(nullptr);
}

PG_FUNCTION_INFO_V1(pg_twilio_wake_worker);
Datum pg_twilio_wake_worker(PG_FUNCTION_ARGS)
{
    (void)fcinfo;
    lifecycle::ordersQueued();
    PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(pg_twilio_may_commit_lazily);
Datum pg_twilio_may_commit_lazily(PG_FUNCTION_ARGS)
{
    lifecycle::mayCommitLazily(PG_GETARG_OID(0), PG_GETARG_OID(1));
    PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(pg_twilio_notify_at_commit);
Datum pg_twilio_notify_at_commit(PG_FUNCTION_ARGS)
{
    return pg::entry([&]() -> Datum {
        notices::notifyAtCommit(std::string(pg::argument(fcinfo, 0)));
        PG_RETURN_VOID();
    });
}
}

// The launcher: one per cluster, connected to shared catalogs only.
//
// It cannot see from there which databases have the extension, so it sends a
// worker into each database once; a worker that finds no extension says so and
// leaves. After that it is told: CREATE EXTENSION, DROP EXTENSION and the end of
// a DROP, RENAME or copy of a database poke it (lifecycle.cpp). Scenarios survived:
//
//   worker dies or is killed       started again at once, then with growing delay
//   worker never comes up          the handle tells; same delay
//   no free background worker      one WARNING, a look when a process has ended, and at every safety poll
//   launcher itself dies           running workers stay; the next one adopts them
//   database barred                left alone until the bar is lifted
//   standby                        not started before promotion (RecoveryFinished)
#include "launcher.hpp"

#include "guard.hpp"
#include "key_ring.hpp"
#include "settings.hpp"
#include "shared.hpp"

extern "C" {
PGDLLEXPORT void pg_twilio_launcher_main(Datum);
}

namespace twilio::launcher {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds firstDelay = 100ms;
constexpr milliseconds longestDelay = 4s;
constexpr milliseconds healthyUptime = 2s;
constexpr milliseconds startPatience = 10s;
constexpr int startsAtOnce = 2;

struct Known {
    bool absent = false;
    bool up = false;
    bool poked = false;  // since the last start
    bool noRoom = false; // no background worker was free for it
    milliseconds delay = firstDelay;
    Clock::time_point startedAt{};
    Clock::time_point nextStart{};
    BackgroundWorkerHandle* handle = nullptr;
};

std::map<Oid, Known> known;
bool roomWarned = false;

bool lacksRoom(const std::pair<const Oid, Known>& item)
{
    return item.second.noRoom;
}

std::vector<Oid> connectableDatabases()
{
    // Collected by the guarded call into plain memory that outlives its transaction.
    Oid* oids = nullptr;
    int count = 0;
    pg::guarded([&] {
        StartTransactionCommand();
        (void)GetTransactionSnapshot();
        Relation relation = table_open(DatabaseRelationId, AccessShareLock);
        TableScanDesc scan = table_beginscan_catalog(relation, 0, nullptr);
        HeapTuple tuple = nullptr;
        int room = 0;
        while ((tuple = heap_getnext(scan, ForwardScanDirection)) != nullptr) {
            auto* database = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple));
            if (!database->datallowconn || database->datconnlimit == -2)
                continue;
            if (count == room) {
                room = room == 0 ? 16 : room * 2;
                MemoryContext const old = MemoryContextSwitchTo(TopMemoryContext);
                oids = static_cast<Oid*>(oids == nullptr ? palloc(room * sizeof(Oid))
                                                         : repalloc(oids, room * sizeof(Oid)));
                MemoryContextSwitchTo(old);
            }
            oids[count++] = database->oid;
        }
        table_endscan(scan);
        table_close(relation, AccessShareLock);
        CommitTransactionCommand();
    });
    std::vector<Oid> result(oids, oids + count);
    if (oids != nullptr)
        pfree(oids);
    return result;
}

void hear(Known& database)
{
    database.absent = false;
    database.poked = true;
    database.nextStart = {};
}

void hearPokes()
{
    shared::Locked lock;
    for (int i = 0; i < shared::state->pokes; i++)
        hear(known[shared::state->poked[i]]);
    if (shared::state->pokedAll)
        for (auto& [oid, database] : known)
            hear(database);
    shared::state->pokes = 0;
    shared::state->pokedAll = false;
}

// The process is no longer ours to watch.
void forget(Known& database)
{
    if (database.handle != nullptr)
        pfree(database.handle);
    database.handle = nullptr;
    database.up = false;
}

void died(Known& database, Clock::time_point now)
{
    bool const healthy = database.up && now - database.startedAt > healthyUptime;
    database.delay = healthy ? firstDelay : std::min(database.delay * 2, longestDelay);
    database.nextStart = now + database.delay;
    forget(database);
}

bool startProcess(Oid oid, int index, std::uint64_t generation, Known& database)
{
    BackgroundWorker worker{};
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    worker.bgw_notify_pid = MyProcPid;
    worker.bgw_main_arg = Int32GetDatum(index);
    std::snprintf(worker.bgw_name, BGW_MAXLEN, "pg_twilio worker for database %u", oid);
    strlcpy(worker.bgw_type, "pg_twilio worker", BGW_MAXLEN);
    strlcpy(worker.bgw_library_name, "pg_twilio", BGW_MAXLEN);
    strlcpy(worker.bgw_function_name, "pg_twilio_worker_main", BGW_MAXLEN);
    std::memcpy(worker.bgw_extra, &oid, sizeof(oid));
    std::memcpy(worker.bgw_extra + sizeof(oid), &generation, sizeof(generation));
    return pg::guarded([&] {
        MemoryContext const old = MemoryContextSwitchTo(TopMemoryContext);
        bool const registered = RegisterDynamicBackgroundWorker(&worker, &database.handle);
        MemoryContextSwitchTo(old);
        return registered;
    });
}

void warnOnce(const char* message, const char* hint, Oid oid)
{
    if (!std::exchange(roomWarned, true))
        ereport(WARNING, (errmsg_internal("%s", message), errdetail_internal("Database %u has no worker.", oid),
                          errhint("%s", hint)));
}

// Whatever makes a start possible wakes the launcher; the safety poll is for what does not.
void waitForPoke(Known& database, Clock::time_point now)
{
    database.nextStart = now + std::chrono::seconds(settings::pollIntervalS);
}

void start(Oid oid, Known& database, Clock::time_point now)
{
    database.noRoom = false;
    int index = -1;
    std::uint64_t generation = 0;
    {
        shared::Locked lock;
        if (const shared::Worker* slot = shared::reserve(oid); slot != nullptr) {
            index = static_cast<int>(slot - shared::state->workers);
            generation = slot->generation;
        }
    }
    if (index < 0) {
        database.noRoom = true;
        waitForPoke(database, now);
        warnOnce("twilio: more databases have the extension than there are worker slots",
                 "Drop the extension where it is not used.", oid);
        return;
    }
    database.startedAt = now;
    database.poked = false;
    if (startProcess(oid, index, generation, database))
        return;
    {
        shared::Locked lock;
        shared::state->workers[index].state = shared::WorkerState::no_room;
    }
    database.noRoom = true;
    waitForPoke(database, now);
    warnOnce("twilio: no background worker is free", "Raise max_worker_processes and restart the server.", oid);
}

// Looks at one database; returns whether a worker is on its way there.
bool attend(Oid oid, Known& database, Clock::time_point now, bool mayStart)
{
    using shared::WorkerState;
    WorkerState seen = WorkerState::none;
    bool barred = false;
    {
        shared::Locked lock;
        shared::Worker* slot = shared::find(oid);
        seen = slot == nullptr ? WorkerState::none : slot->state;
        barred = shared::isBarred(oid);
        if (seen == WorkerState::absent) {
            slot->state = WorkerState::none;
            slot->database = InvalidOid;
        }
    }
    switch (seen) {
    case WorkerState::running:
    case WorkerState::paused:
        database.up = true;
        return false;
    case WorkerState::absent:
        // A poke since then means that the extension may have come meanwhile.
        forget(database);
        database.absent = !database.poked;
        return false;
    case WorkerState::starting: {
        pid_t pid = 0;
        bool const lost = database.handle != nullptr ? GetBackgroundWorkerPid(database.handle, &pid) == BGWH_STOPPED
                                                     : now - database.startedAt > startPatience;
        if (!lost)
            return true;
        shared::Locked lock;
        if (shared::Worker* slot = shared::find(oid); slot != nullptr && slot->state == WorkerState::starting) {
            slot->state = WorkerState::none;
            slot->database = InvalidOid;
            slot->generation++;
        }
        died(database, now);
        return false;
    }
    case WorkerState::no_room:
    case WorkerState::none:
        break;
    }
    if (database.up || database.handle != nullptr)
        died(database, now);
    if (barred)
        waitForPoke(database, now);
    if (database.absent || !mayStart || now < database.nextStart)
        return false;
    start(oid, database, now);
    return true;
}

void attendAll()
{
    hearPokes();
    std::vector<Oid> const databases = connectableDatabases();
    std::erase_if(known, [&](const auto& item) {
        return std::find(databases.begin(), databases.end(), item.first) == databases.end();
    });
    shared::freeAllBut(databases);
    auto const now = Clock::now();
    int starting = 0;
    for (Oid oid : databases)
        starting += attend(oid, known[oid], now, starting < startsAtOnce) ? 1 : 0;
    roomWarned = roomWarned && std::any_of(known.begin(), known.end(), lacksRoom);
}

// A process that has ended may have left room.
void tryForRoom()
{
    for (auto& item : known)
        if (lacksRoom(item))
            item.second.nextStart = {};
}

// Time until something is due here: a delayed start, or the safety poll.
long waitMillis()
{
    auto const now = Clock::now();
    milliseconds wait = std::chrono::seconds(settings::pollIntervalS);
    for (const auto& [oid, database] : known) {
        if (database.absent || database.up)
            continue;
        auto const due = std::chrono::duration_cast<milliseconds>(database.nextStart - now);
        wait = std::min(wait, std::max(due, milliseconds(database.handle != nullptr ? 200 : 50)));
    }
    return static_cast<long>(wait.count());
}

void makeKeyFile()
{
    std::string const path = settings::keyFilePath();
    if (path.empty())
        return;
    try {
        readKeyFile(path);
    } catch (const KeyFileError& error) {
        if (error.kind() == KeyFileError::Kind::missing) {
            if (!createKeyFile(path))
                throw; // it is a link that leads nowhere
            ereport(LOG,
                    (errmsg("twilio: created key file \"%s\"", path.c_str()),
                     errhint("Back it up apart from the database: without it no stored credential can be opened.")));
        } else {
            ereport(WARNING,
                    (errmsg("twilio: key file \"%s\" cannot be used", path.c_str()),
                     errdetail_internal("%s", error.what()),
                     errhint("Until it is put right no credential can be stored or used. No restart is needed.")));
        }
    }
}

void leave(int, Datum)
{
    shared::Locked lock;
    shared::state->launcherLatch = nullptr;
}

void run()
{
    pg::guarded([] {
        BackgroundWorkerUnblockSignals();
        BackgroundWorkerInitializeConnection(nullptr, nullptr, 0);
        before_shmem_exit(leave, 0);
    });
    {
        shared::Locked lock;
        shared::state->launcherLatch = MyLatch;
    }
    try {
        makeKeyFile();
    } catch (const std::exception& problem) {
        ereport(WARNING, (errmsg("twilio: the key file cannot be created"), errdetail_internal("%s", problem.what()),
                          errhint("The directory of twilio.key_file must be writable for the server's user.")));
    }
    std::uint32_t const event = pg::waitEvent("TwilioLauncherMain");
    while (!ShutdownRequestPending) {
        attendAll();
        long const wait = waitMillis();
        pg::guarded([&] {
            if ((WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, wait, event) & WL_LATCH_SET) != 0)
                tryForRoom();
            ResetLatch(MyLatch);
            CHECK_FOR_INTERRUPTS();
            if (ConfigReloadPending) {
                ConfigReloadPending = false;
                ProcessConfigFile(PGC_SIGHUP);
            }
        });
    }
}

} // namespace

void registerWorker()
{
    BackgroundWorker worker{};
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = 1;
    strlcpy(worker.bgw_name, "pg_twilio launcher", BGW_MAXLEN);
    strlcpy(worker.bgw_type, "pg_twilio launcher", BGW_MAXLEN);
    strlcpy(worker.bgw_library_name, "pg_twilio", BGW_MAXLEN);
    strlcpy(worker.bgw_function_name, "pg_twilio_launcher_main", BGW_MAXLEN);
    RegisterBackgroundWorker(&worker);
}

} // namespace twilio::launcher

void pg_twilio_launcher_main(Datum)
{
    pqsignal(SIGINT, SIG_IGN); // it runs no statement that could be cancelled
    pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    twilio::pg::entry([]() -> Datum {
        twilio::launcher::run();
        return 0;
    });
    // Status 1, because a background worker that ends with 0 is not started again.
    proc_exit(1);
}

// The worker of one database: a single loop that never blocks, and whose transactions
// never wait for a request. Scenarios survived:
//
//   DROP EXTENSION           poked, looks for the extension, leaves (state absent)
//   DROP/RENAME DATABASE     SIGTERM from the backend that needs the database
//   library and SQL differ   state paused, with a note; poked by ALTER EXTENSION
//   tables locked by a DBA   lock_timeout; the batch waits in memory
//   ended while it waits     for a standby or an app's trigger: the wait is cancelled
//   idle                     no statement; secrets wiped; only the safety poll wakes it
#include "ask_desk.hpp"
#include "audit.hpp"
#include "dispatcher.hpp"
#include "guard.hpp"
#include "http_engine.hpp"
#include "secrets.hpp"
#include "sender.hpp"
#include "settings.hpp"
#include "shared.hpp"

#include <curl/curl.h>
#include <malloc.h>

extern "C" {
PGDLLEXPORT void pg_twilio_worker_main(Datum);
}

namespace twilio {

namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

// Secrets are wiped when nothing has happened for this long.
constexpr milliseconds forgetAfter = 2s;
constexpr milliseconds betweenTrims = 5s;
constexpr milliseconds lastWords = 500ms;
constexpr milliseconds betweenLooks = 500ms;

shared::Worker* slot = nullptr;

milliseconds until(TimePoint due)
{
    return std::max(1ms, std::chrono::ceil<milliseconds>(due - Clock::now()));
}

Options engineOptions()
{
    Options options;
    options.connectTimeout = milliseconds(settings::connectTimeoutMs);
    options.requestTimeout = milliseconds(settings::requestTimeoutMs);
    options.maxResponseSize = static_cast<std::size_t>(settings::maxResponseSize);
    options.caFile = settings::caFile;
    options.proxy = settings::proxy;
    options.connectTo = settings::connectTo;
    options.userAgent = "pg_twilio/" PG_TWILIO_VERSION " (PostgreSQL " PG_MAJORVERSION ") libcurl/" LIBCURL_VERSION;
    return options;
}

// Batches take and give back some megabytes many times a second. Left to itself, glibc returns them to the system each
// time and gets them back page by page. They are returned when the worker is idle, and now and then while it is busy:
// what lasts keeps what a burst has left around it.
void keepFreedMemory(bool kept)
{
    constexpr int mostKept = 4 * 1024 * 1024;
    constexpr int mostInOnePiece = 8 * 1024 * 1024;
    mallopt(M_TRIM_THRESHOLD, kept ? mostKept : 0);
    mallopt(M_MMAP_THRESHOLD, mostInOnePiece);
}

class Worker {
public:
    explicit Worker(shared::Worker& shared) : shared_(shared), engine_(engineOptions())
    {
        pg::guarded([&] {
            waitEvent_ = pg::waitEvent("TwilioWorkerMain");
            set_ = pg::createWaitEventSet(3);
            AddWaitEventToSet(set_, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, nullptr);
            AddWaitEventToSet(set_, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, nullptr, nullptr);
            AddWaitEventToSet(set_, WL_SOCKET_READABLE, engine_.descriptor(), nullptr, nullptr);
        });
        running_ = this; // last: where this fails, there is nothing to end at exit
    }

    ~Worker() { running_ = nullptr; }
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    // No thread may go on while the process is taken down around it.
    static void onExit(int, Datum)
    {
        if (running_ != nullptr)
            running_->orders_.endThread();
    }

    void run()
    {
        while (!ShutdownRequestPending && shared::isMine(shared_)) {
            if (!isStillThere())
                return;
            if (shared_.ordersWaiting.exchange(false))
                orders_.wake();
            turn();
            wait();
        }
        finish();
    }

    // False when the extension is not there.
    bool look();

private:
    // Looks again when somebody has asked for that. An extension that is locked is there: its DROP may be rolled back.
    bool isStillThere()
    {
        if (Clock::now() < lookNotBefore_ || !shared_.lookAgain.exchange(false))
            return true;
        try {
            return look();
        } catch (const pg::Error& error) {
            if (!isPassing(error))
                throw;
            pg::logError(error, "looking for the extension");
            shared_.lookAgain = true;
            lookNotBefore_ = Clock::now() + betweenLooks;
            return true;
        }
    }

    void turn()
    {
        asks_.admit();
        if (!sender_.hasReplies()) // what came during a loan goes first
            sender_.pump();
        takeReplies();
        asks_.answer(audit_);
        orders_.work(audit_);
        shared_.counters.inFlight = static_cast<std::uint32_t>(engine_.inFlight());
        forgetWhenIdle();
    }

    void takeReplies()
    {
        while (auto reply = sender_.nextOther())
            asks_.take(*reply);
    }

    // A short while for what is under way: an order cut off here is in doubt
    // later. DROP DATABASE and a fast shutdown wait for us, so it is short.
    void finish()
    {
        auto const end = Clock::now() + lastWords;
        sender_.allow(0);
        while (engine_.inFlight() > 0 && Clock::now() < end) {
            sender_.pump();
            takeReplies();
            pg_usleep(1000);
        }
        if (shared_.state == shared::WorkerState::running)
            orders_.finish();
    }

    bool busy() const { return !asks_.idle() || !orders_.idle() || engine_.inFlight() > 0 || !audit_.empty(); }

    void forgetWhenIdle()
    {
        auto const now = Clock::now();
        if (busy()) {
            idleSince_ = now;
            forgotten_ = false;
            if (now >= trimAt_) {
                malloc_trim(0);
                trimAt_ = now + betweenTrims;
            }
        } else if (!forgotten_ && now - idleSince_ >= forgetAfter) {
            credentials_.wipe();
            keepFreedMemory(false);
            engine_.forget();
            orders_.endThread(); // after all that was the thread's is free
            malloc_trim(0);
            keepFreedMemory(true);
            pg::guarded([] { pgstat_report_stat(true); });
            forgotten_ = true;
        }
    }

    long waitMillis() const
    {
        if (sender_.hasReplies())
            return 0;
        milliseconds wait = std::chrono::seconds(settings::pollIntervalS);
        if (milliseconds const due = engine_.waitMillis(); due >= 0ms)
            wait = std::min(wait, due);
        wait = std::min(wait, orders_.waitMillis());
        if (!audit_.empty())
            wait = std::min<milliseconds>(wait, 500ms);
        if (shared_.lookAgain)
            wait = std::min(wait, until(lookNotBefore_));
        if (!forgotten_)
            wait = std::min(wait, until(idleSince_ + forgetAfter));
        return static_cast<long>(wait.count());
    }

    void wait()
    {
        long const millis = waitMillis();
        pg::guarded([&] {
            // While the latch is set again and again, nothing else is waited for.
            if (!PostmasterIsAlive())
                proc_exit(1);
            WaitEvent event;
            (void)WaitEventSetWait(set_, millis, &event, 1, waitEvent_);
            ResetLatch(MyLatch);
            CHECK_FOR_INTERRUPTS();
        });
        if (ConfigReloadPending)
            reload();
    }

    void reload()
    {
        ConfigReloadPending = false;
        pg::guarded([] { ProcessConfigFile(PGC_SIGHUP); });
        engine_.configure(engineOptions());
        asks_.reload();
        orders_.reload();
    }

    static inline Worker* running_ = nullptr;

    shared::Worker& shared_;
    HttpEngine engine_;
    Sender sender_{engine_};
    secrets::Cache credentials_;
    AuditTrail audit_;
    std::uint64_t lastId_ = 0;
    AskDesk asks_{engine_, shared_, credentials_, lastId_};
    Dispatcher orders_{sender_, shared_, credentials_, lastId_};
    WaitEventSet* set_ = nullptr;
    std::uint32_t waitEvent_ = 0;
    TimePoint idleSince_ = Clock::now();
    bool forgotten_ = false;
    TimePoint trimAt_{};
    TimePoint lookNotBefore_{};
};

bool Worker::look()
{
    pg::Transaction transaction("pg_twilio: looking for the extension");
    if (!transaction.lockExtension())
        return false;
    bool const fits = pg::guarded([] {
        if (SPI_execute("SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'pg_twilio'", true, 1) !=
                SPI_OK_SELECT ||
            SPI_processed != 1)
            elog(ERROR, "pg_extension could not be read");
        const char* version = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
        return std::strcmp(version, PG_TWILIO_VERSION) == 0;
    });
    transaction.commit();
    orders_.pause(!fits);
    shared::Locked lock;
    shared_.state = fits ? shared::WorkerState::running : shared::WorkerState::paused;
    strlcpy(shared_.note, fits ? "" : "The library is version " PG_TWILIO_VERSION ", the extension's SQL is another.",
            sizeof(shared_.note));
    return true;
}

// Two workers would take each other's requests for what a crash has cut off. The
// lock is held until the process ends, whatever shared memory says. It is of a class
// of its own: what anybody can take with pg_advisory_lock() is of class 1 or 2.
bool isAlone()
{
    constexpr std::uint32_t high = 0x7477; // "twilio"
    constexpr std::uint32_t low = 0x696c696f;
    constexpr std::uint16_t classOfOurs = 3;
    pg::Transaction transaction("pg_twilio: starting");
    bool const alone = pg::guarded([] {
        LOCKTAG tag;
        SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, high, low, classOfOurs);
        return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
    });
    transaction.commit();
    return alone;
}

void leaveSlot(int, Datum)
{
    if (slot != nullptr)
        shared::leave(*slot, shared::WorkerState::none);
}

void connect(Oid database)
{
    pg::guarded([&] {
        BackgroundWorkerUnblockSignals();
        BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
        pqsignal(SIGTERM, pg::Transaction::onShutdown);
        before_shmem_exit(leaveSlot, 0);
        before_shmem_exit(Worker::onExit, 0);
        for (auto [name, value] : {std::pair("role", "none"), // which a database may have for its sessions
                                   {"search_path", "pg_catalog, pg_temp"},
                                   // Before deadlock_timeout ends, by which an app would be the one to give way.
                                   {"lock_timeout", "500ms"},
                                   {"default_transaction_read_only", "off"},
                                   {"statement_timeout", "0"},
                                   {"temp_file_limit", "-1"},
                                   {"default_transaction_isolation", "read committed"},
                                   {"idle_in_transaction_session_timeout", "0"},
                                   {"transaction_timeout", "0"}, // of PostgreSQL 17
                                   {"row_security", "on"},
                                   {"session_replication_role", "origin"},
                                   {"jit", "off"},
                                   // Its statements are all by key, and their plans outlive the empty tables
                                   // for which they may have been made.
                                   {"enable_seqscan", "off"},
                                   {"enable_bitmapscan", "off"},
                                   {"enable_hashjoin", "off"},
                                   {"enable_mergejoin", "off"},
                                   {"plan_cache_mode", "force_generic_plan"}})
            if (GetConfigOption(name, true, false) != nullptr)
                SetConfigOption(name, value, PGC_SUSET, PGC_S_SESSION);
    });
}

void run(int index)
{
    Oid database = InvalidOid;
    std::uint64_t generation = 0;
    std::memcpy(&database, MyBgworkerEntry->bgw_extra, sizeof(database));
    std::memcpy(&generation, MyBgworkerEntry->bgw_extra + sizeof(database), sizeof(generation));
    connect(database);
    slot = shared::attach(index, generation);
    if (slot == nullptr)
        return;

    keepFreedMemory(true);
    HttpEngine::prepareProcess();
    Worker worker(*slot);
    if (!isAlone()) {
        ereport(LOG, (errmsg("twilio: another worker is still at work in this database")));
        proc_exit(1);
    }
    if (worker.look())
        worker.run();
    if (!ShutdownRequestPending)
        shared::leave(*slot, shared::WorkerState::absent);
    // The process ends here: sockets close with it, faster than one by one.
    proc_exit(0);
}

} // namespace

} // namespace twilio

void pg_twilio_worker_main(Datum index)
{
    pqsignal(SIGINT, twilio::pg::Transaction::onCancel);
    pqsignal(SIGTERM, die); // until it is connected, which may wait for a lock on the database
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    twilio::pg::entry([&]() -> Datum {
        twilio::run(DatumGetInt32(index));
        return 0;
    });
    proc_exit(0);
}

// What the processes of this extension share: who works for which database,
// the asks that wait for it, the pokes for the launcher, and the databases that
// must be left alone for a moment.
//
// Everything here is plain data: no pointer or descriptor of one process. A
// PGPROC and its latch are the exception; they live in shared memory themselves.
// Fields are protected by the one lightweight lock unless they are atomic.
#pragma once

#include "compat.hpp"

namespace twilio::shared {

inline constexpr int maxDatabases = 64;
inline constexpr int askRingSize = 512;
inline constexpr Size askSize = 24 * 1024;
inline constexpr int maxBars = 32;
inline constexpr int maxPokes = 32;

enum class WorkerState {
    none,     // the slot is free
    starting, // the launcher has asked the postmaster for a process
    running,
    paused,  // runs, but library and SQL do not fit together: see note
    absent,  // the process found no extension and left
    no_room, // max_worker_processes is exhausted
};

struct Counters {
    std::atomic<std::uint64_t> asksAnswered, sent, failed;
    std::atomic<std::uint32_t> inFlight;
};

struct Worker {
    Oid database;
    WorkerState state;
    pid_t pid;
    PGPROC* process;
    Latch* latch;
    std::uint64_t generation; // grows with every change of process; an ask belongs to one
    TimestampTz startedAt;
    std::uint32_t askHead, askTail;
    int asks[askRingSize]; // numbers of slots
    char note[160];
    char lastError[256];
    TimestampTz lastErrorAt;
    std::atomic<bool> ordersWaiting; // something was committed to the outbox
    std::atomic<bool> lookAgain;     // the extension may be gone or changed
    std::atomic<std::uint32_t> cancellations;
    std::atomic<std::uint64_t> audited; // the last batch of asks whose audit rows are visible
    Counters counters;
    Oid reported; // the database that counters and last error are about; others use the slot later
};

// Where a backend leaves its ask and the worker the answer, in the form of
// ask.hpp. Each backend has one of its own, so none is looked for or left over.
struct AskSlot {
    std::atomic<bool> taken;    // the worker may read and write it: the backend must not begin another ask
    std::atomic<bool> canceled; // the backend no longer waits
    Worker* worker;             // whose it is while it is taken, in this generation
    std::uint64_t generation;
    alignas(MAXIMUM_ALIGNOF) char ask[askSize];
};

// A database that a DROP, RENAME or copy needs for itself.
struct Bar {
    Oid database;
    pid_t holder;
};

struct State {
    LWLock* lock;
    bool wasCutOffLongAgo; // the server that wrote these files: see control_file.hpp
    Latch* launcherLatch;
    bool pokedAll; // look at every database again
    int pokes;
    Oid poked[maxPokes];
    Bar bars[maxBars];
    Worker workers[maxDatabases];
};

// Null when the library was not preloaded.
extern State* state;

void request(); // asks for the memory, from _PG_init

class Locked {
public:
    explicit Locked(LWLockMode mode = LW_EXCLUSIVE) { LWLockAcquire(state->lock, mode); }
    ~Locked() { LWLockRelease(state->lock); }
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;
};

// The slot of a database, or null. The caller holds the lock.
Worker* find(Oid database);

// For any process.
void poke(Oid database);       // the extension may have come or gone there
void wakeOrders(Oid database); // an order was committed
bool isBarred(Oid database);   // the caller holds the lock

// Keeps workers out of a database until lift(), and waits up to `patience` for
// the present one to leave.
void bar(Oid database, std::chrono::milliseconds patience);
void lift();

// For the launcher.
Worker* reserve(Oid database);                      // state starting, a new generation; null when all slots are taken
void freeAllBut(const std::vector<Oid>& databases); // the slots of databases that are gone

// For a worker: takes over the slot reserved for it, or returns null when the
// launcher has given up on it meanwhile or the database is barred.
Worker* attach(int index, std::uint64_t generation);
bool isMine(const Worker& worker); // the slot has not been given away
void leave(Worker& worker, WorkerState finally);
void noteError(Worker& worker, std::string_view text);
AskSlot* takeAsk(Worker& worker); // the next of the ring, or null

// For a backend that asks.
AskSlot& ownSlot();
bool isTaken(const AskSlot& slot); // by a worker that is still there
// False: the ring is full. The caller holds the lock; then it wakes the worker.
bool submit(Worker& worker, AskSlot& slot);
void cancel(AskSlot& slot);

} // namespace twilio::shared

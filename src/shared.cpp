// Creation of the shared state and the short critical sections on it.
#include "shared.hpp"

#include "control_file.hpp"

namespace twilio::shared {

State* state = nullptr;

namespace {

shmem_startup_hook_type previousStartup = nullptr;

Size size()
{
    return add_size(MAXALIGN(sizeof(State)), mul_size(pg::mostBackends(), sizeof(AskSlot)));
}

AskSlot* slots()
{
    return reinterpret_cast<AskSlot*>(reinterpret_cast<char*>(state) + MAXALIGN(sizeof(State)));
}

void create()
{
    if (previousStartup != nullptr)
        previousStartup();

    bool found = false;
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    state = static_cast<State*>(ShmemInitStruct("pg_twilio", size(), &found));
    if (!found) {
        std::memset(static_cast<void*>(state), 0, size());
        new (state) State{};
        state->lock = &GetNamedLWLockTranche("pg_twilio")->lock;
        state->wasCutOffLongAgo = control_file::wasCutOffLongAgo();
    }
    LWLockRelease(AddinShmemInitLock);
}

void empty(Worker& worker, WorkerState finally)
{
    worker.state = finally;
    worker.pid = 0;
    worker.process = nullptr;
    worker.latch = nullptr;
    worker.generation++;
    worker.askHead = worker.askTail = 0;
    worker.counters.inFlight = 0;
    if (finally == WorkerState::none)
        worker.database = InvalidOid;
}

// The one that the database had before, if it is free.
Worker* findFree(Oid database)
{
    Worker* found = nullptr;
    for (Worker& worker : state->workers)
        if (worker.state == WorkerState::none && (found == nullptr || worker.reported == database))
            found = &worker;
    return found;
}

void forgetReported(Worker& worker)
{
    worker.counters.asksAnswered = worker.counters.sent = worker.counters.failed = 0;
    worker.lastError[0] = '\0';
}

void wakeLauncher()
{
    if (state->launcherLatch != nullptr)
        SetLatch(state->launcherLatch);
}

void pokeLauncher(Oid database)
{
    if (state->pokes < maxPokes)
        state->poked[state->pokes++] = database;
    else
        state->pokedAll = true;
    wakeLauncher();
}

} // namespace

void request()
{
    pg::onShmemRequest([] {
        RequestAddinShmemSpace(size());
        RequestNamedLWLockTranche("pg_twilio", 1);
    });
    previousStartup = shmem_startup_hook;
    shmem_startup_hook = create;
}

Worker* find(Oid database)
{
    for (Worker& worker : state->workers)
        if (worker.state != WorkerState::none && worker.database == database)
            return &worker;
    return nullptr;
}

void poke(Oid database)
{
    if (state == nullptr)
        return;
    Locked lock;
    if (Worker* worker = find(database); worker != nullptr) {
        worker->lookAgain = true;
        if (worker->latch != nullptr)
            SetLatch(worker->latch);
    }
    pokeLauncher(database);
}

void wakeOrders(Oid database)
{
    if (state == nullptr)
        return;
    Locked lock(LW_SHARED);
    Worker* worker = find(database);
    if (worker == nullptr)
        return;
    worker->ordersWaiting = true;
    if (worker->latch != nullptr)
        SetLatch(worker->latch);
}

bool isBarred(Oid database)
{
    return std::any_of(std::begin(state->bars), std::end(state->bars),
                       [&](const Bar& bar) { return bar.holder != 0 && bar.database == database; });
}

void bar(Oid database, std::chrono::milliseconds patience)
{
    if (state == nullptr)
        return;
    {
        Locked lock;
        for (Bar& bar : state->bars) {
            if (bar.holder != 0)
                continue;
            bar = {database, MyProcPid};
            break;
        }
    }
    auto const deadline = std::chrono::steady_clock::now() + patience;
    bool told = false;
    while (std::chrono::steady_clock::now() < deadline) {
        {
            Locked lock;
            Worker* worker = find(database);
            bool const present = worker != nullptr && (worker->state == WorkerState::starting || worker->pid != 0);
            if (!present)
                return;
            if (worker->pid != 0 && !told)
                told = kill(worker->pid, SIGTERM) == 0;
        }
        CHECK_FOR_INTERRUPTS();
        pg_usleep(2000);
    }
}

void lift()
{
    if (state == nullptr)
        return;
    Locked lock;
    for (Bar& bar : state->bars)
        if (bar.holder == MyProcPid)
            pokeLauncher(std::exchange(bar, {}).database);
}

Worker* reserve(Oid database)
{
    Worker* slot = find(database);
    if (slot == nullptr)
        slot = findFree(database);
    if (slot == nullptr)
        return nullptr;
    empty(*slot, WorkerState::starting);
    slot->database = database;
    slot->note[0] = '\0';
    if (std::exchange(slot->reported, database) != database)
        forgetReported(*slot);
    return slot;
}

void freeAllBut(const std::vector<Oid>& databases)
{
    Locked lock;
    for (Worker& worker : state->workers)
        if (worker.state != WorkerState::none && worker.pid == 0 &&
            std::find(databases.begin(), databases.end(), worker.database) == databases.end())
            empty(worker, WorkerState::none);
}

Worker* attach(int index, std::uint64_t generation)
{
    Locked lock;
    Worker& worker = state->workers[index];
    if (worker.generation != generation || worker.state != WorkerState::starting)
        return nullptr;
    if (isBarred(worker.database)) {
        empty(worker, WorkerState::none);
        wakeLauncher();
        return nullptr;
    }
    worker.state = WorkerState::running;
    worker.pid = MyProcPid;
    worker.process = MyProc;
    worker.latch = MyLatch;
    worker.startedAt = GetCurrentTimestamp();
    worker.ordersWaiting = true;
    worker.lookAgain = false;
    return &worker;
}

bool isMine(const Worker& worker)
{
    return worker.pid == MyProcPid;
}

void leave(Worker& worker, WorkerState finally)
{
    Locked lock;
    if (worker.pid != MyProcPid)
        return;
    empty(worker, finally);
    for (int i = 0; i < pg::mostBackends(); i++)
        if (slots()[i].taken && slots()[i].worker == &worker)
            SetLatch(&ProcGlobal->allProcs[i].procLatch);
    wakeLauncher();
}

void noteError(Worker& worker, std::string_view text)
{
    Locked lock;
    auto const length = static_cast<std::size_t>( // whole characters only
        pg_mbcliplen(text.data(), static_cast<int>(text.size()), sizeof(worker.lastError) - 1));
    std::memcpy(worker.lastError, text.data(), length);
    worker.lastError[length] = '\0';
    worker.lastErrorAt = GetCurrentTimestamp();
}

AskSlot* takeAsk(Worker& worker)
{
    Locked lock;
    if (worker.askHead == worker.askTail)
        return nullptr;
    return &slots()[worker.asks[worker.askTail++ % askRingSize]];
}

AskSlot& ownSlot()
{
    return slots()[MyProc - ProcGlobal->allProcs];
}

bool isTaken(const AskSlot& slot)
{
    return slot.taken.load(std::memory_order_acquire) && slot.worker->generation == slot.generation;
}

bool submit(Worker& worker, AskSlot& slot)
{
    if (worker.askHead - worker.askTail == askRingSize)
        return false;
    slot.canceled = false;
    slot.worker = &worker;
    slot.generation = worker.generation;
    slot.taken = true;
    worker.asks[worker.askHead++ % askRingSize] = static_cast<int>(&slot - slots());
    return true;
}

void cancel(AskSlot& slot)
{
    slot.canceled.store(true, std::memory_order_release);
    Locked lock(LW_SHARED);
    if (!isTaken(slot))
        return;
    slot.worker->cancellations++;
    if (Latch* latch = slot.worker->latch; latch != nullptr)
        SetLatch(latch);
}

} // namespace twilio::shared

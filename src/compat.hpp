// Every difference between PostgreSQL 14 and 18 that this extension meets.
//
// Each is answered by offering the newer name to the older server; no other
// file may look at PG_VERSION_NUM.
#pragma once

#include "pg.hpp"

#if PG_VERSION_NUM < 150000
#define MarkGUCPrefixReserved(prefix) EmitWarningsOnPlaceholders(prefix)
#else
extern "C" {
#include "utils/pgstat_internal.h"
}
#endif

// Since 18 a library says its name and version.
#if PG_VERSION_NUM < 180000
#define PG_MODULE_MAGIC_EXT(...) PG_MODULE_MAGIC
#endif

namespace twilio::pg {

inline shm_mq_result sendNowait(shm_mq_handle* queue, Size bytes, const void* data)
{
#if PG_VERSION_NUM >= 150000
    return shm_mq_send(queue, bytes, data, true, true);
#else
    return shm_mq_send(queue, bytes, data, true);
#endif
}

inline bool ownsDatabase(Oid database, Oid role)
{
#if PG_VERSION_NUM >= 160000
    return object_ownercheck(DatabaseRelationId, database, role);
#else
    return pg_database_ownercheck(database, role);
#endif
}

inline WaitEventSet* createWaitEventSet(int events)
{
#if PG_VERSION_NUM >= 170000
    return CreateWaitEventSet(nullptr, events);
#else
    return CreateWaitEventSet(TopMemoryContext, events);
#endif
}

// MaxBackends, which 14 computes only after the libraries are loaded.
inline int mostBackends()
{
#if PG_VERSION_NUM >= 150000
    return MaxBackends;
#else
    return MaxConnections + autovacuum_max_workers + 1 + max_worker_processes + max_wal_senders;
#endif
}

// The name that pg_stat_activity shows while a process of ours waits.
inline std::uint32_t waitEvent([[maybe_unused]] const char* name)
{
#if PG_VERSION_NUM >= 170000
    return WaitEventExtensionNew(name);
#else
    return PG_WAIT_EXTENSION;
#endif
}

// Whether the transaction has changed nothing but rows of one table that it updated and rows of another that it
// inserted. The counts are those of the statistics; 14 keeps them to itself.
inline bool changesOnly([[maybe_unused]] Oid updated, [[maybe_unused]] Oid inserted)
{
#if PG_VERSION_NUM >= 150000
    const PgStat_TableXactStatus* change = pgstat_get_xact_stack_level(1)->first;
    if (change == nullptr || !pgstat_track_counts)
        return false;
    for (; change != nullptr; change = change->next) {
#if PG_VERSION_NUM >= 160000
        Oid const table = change->parent->id;
#else
        Oid const table = change->parent->t_id;
#endif
        if (change->truncdropped || change->tuples_deleted > 0 || (change->tuples_updated > 0 && table != updated) ||
            (change->tuples_inserted > 0 && table != inserted))
            return false;
    }
    return true;
#else
    return false;
#endif
}

// Shared memory may be asked for only in shmem_request_hook since 15, only in
// _PG_init before.
inline void onShmemRequest(void (*request)())
{
#if PG_VERSION_NUM >= 150000
    static void (*ours)() = nullptr;
    static shmem_request_hook_type previous = nullptr;
    ours = request;
    previous = shmem_request_hook;
    shmem_request_hook = [] {
        if (previous != nullptr)
            previous();
        ours();
    };
#else
    request();
#endif
}

} // namespace twilio::pg

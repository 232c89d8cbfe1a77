// Hooks in the backends. Scenarios survived:
//
//   CREATE EXTENSION, commit      the launcher is poked and starts a worker
//   CREATE EXTENSION, abort       nothing happens
//   DROP EXTENSION, in any way    the worker is poked, looks, and leaves
//   DROP/RENAME/MOVE DATABASE     the worker is sent away first and kept out
//   CREATE DATABASE TEMPLATE      until the statement's transaction has ended
//   COMMIT PREPARED               the worker looks for orders; the extension may have come or gone
#include "lifecycle.hpp"

#include "guard.hpp"
#include "shared.hpp"

namespace twilio::lifecycle {

namespace {

using namespace std::chrono_literals;

ProcessUtility_hook_type previousUtility = nullptr;
object_access_hook_type previousAccess = nullptr;

struct Pending {
    bool orders = false;
    bool extension = false;
    bool bars = false;
    bool lazy = false; // where nothing else changes than these:
    Oid updated = InvalidOid;
    Oid inserted = InvalidOid;
} pending;

void atEndOfTransaction(XactEvent event, void*)
{
    switch (event) {
    case XACT_EVENT_PRE_COMMIT:
        if (pending.lazy && pg::changesOnly(pending.updated, pending.inserted))
            pg::commitLazily();
        return;
    case XACT_EVENT_COMMIT:
        if (pending.orders)
            shared::wakeOrders(MyDatabaseId);
        if (pending.extension)
            shared::poke(MyDatabaseId);
        break;
    case XACT_EVENT_ABORT:
    case XACT_EVENT_PREPARE:
        break;
    default:
        return;
    }
    if (pending.bars)
        shared::lift();
    pending = {};
}

void onObjectAccess(ObjectAccessType access, Oid classId, Oid objectId, int subId, void* arg)
{
    if (previousAccess != nullptr)
        previousAccess(access, classId, objectId, subId, arg);
    if (access == OAT_DROP && classId == ExtensionRelationId)
        pending.extension = true;
}

// A flag of a row of the catalog.
template<typename Row>
bool isSet(bool Row::*flag, int cache, Oid row)
{
    HeapTuple const tuple = SearchSysCache1(cache, ObjectIdGetDatum(row));
    if (!HeapTupleIsValid(tuple))
        return false;
    bool const value = reinterpret_cast<Row*>(GETSTRUCT(tuple))->*flag;
    ReleaseSysCache(tuple);
    return value;
}

bool owns(Oid database)
{
    return pg::ownsDatabase(database, GetUserId());
}

bool mayCopy(Oid database)
{
    return owns(database) || (isSet(&FormData_pg_authid::rolcreatedb, AUTHOID, GetUserId()) &&
                              isSet(&FormData_pg_database::datistemplate, DATABASEOID, database));
}

// Sends the worker of a database away and keeps it out, if the caller has any right to ask.
void clear(const char* database, bool (*mayAsk)(Oid database))
{
    if (database == nullptr || shared::state == nullptr || RecoveryInProgress())
        return;
    Oid const oid = get_database_oid(database, true);
    if (!OidIsValid(oid) || oid == MyDatabaseId || !mayAsk(oid))
        return;
    pending.bars = true;
    shared::bar(oid, 4s);
}

const char* templateOf(const CreatedbStmt& statement)
{
    ListCell* cell = nullptr;
    foreach (cell, statement.options) {
        auto* option = static_cast<DefElem*>(lfirst(cell));
        if (std::strcmp(option->defname, "template") == 0 && option->arg != nullptr)
            return defGetString(option);
    }
    return "template1";
}

bool movesTablespace(const AlterDatabaseStmt& statement)
{
    ListCell* cell = nullptr;
    foreach (cell, statement.options)
        if (std::strcmp(static_cast<DefElem*>(lfirst(cell))->defname, "tablespace") == 0)
            return true;
    return false;
}

void before(Node* statement)
{
    switch (nodeTag(statement)) {
    case T_CreateExtensionStmt:
    case T_AlterExtensionStmt:
        pending.extension = true;
        break;
    case T_DropdbStmt:
        clear(reinterpret_cast<DropdbStmt*>(statement)->dbname, owns);
        break;
    case T_RenameStmt: {
        auto* rename = reinterpret_cast<RenameStmt*>(statement);
        if (rename->renameType == OBJECT_DATABASE)
            clear(rename->subname, owns);
        break;
    }
    case T_AlterDatabaseStmt: {
        auto* alter = reinterpret_cast<AlterDatabaseStmt*>(statement);
        if (movesTablespace(*alter))
            clear(alter->dbname, owns);
        break;
    }
    case T_CreatedbStmt:
        clear(templateOf(*reinterpret_cast<CreatedbStmt*>(statement)), mayCopy);
        break;
    default:
        break;
    }
}

bool commitsPrepared(Node* statement)
{
    return nodeTag(statement) == T_TransactionStmt &&
           reinterpret_cast<TransactionStmt*>(statement)->kind == TRANS_STMT_COMMIT_PREPARED;
}

void onUtility(PlannedStmt* planned, const char* query, bool readOnlyTree, ProcessUtilityContext context,
               ParamListInfo parameters, QueryEnvironment* environment, DestReceiver* receiver,
               QueryCompletion* completion)
{
    bool const prepared = commitsPrepared(planned->utilityStmt);
    Oid const extension = prepared ? get_extension_oid("pg_twilio", true) : InvalidOid;
    before(planned->utilityStmt);
    (previousUtility != nullptr ? previousUtility : standard_ProcessUtility)(
        planned, query, readOnlyTree, context, parameters, environment, receiver, completion);
    if (!prepared)
        return;
    shared::wakeOrders(MyDatabaseId);
    AcceptInvalidationMessages(); // of what was committed: from PostgreSQL 18 on the OID comes from a cache
    if (get_extension_oid("pg_twilio", true) != extension)
        pending.extension = true;
}

} // namespace

void installHooks()
{
    previousUtility = ProcessUtility_hook;
    ProcessUtility_hook = onUtility;
    previousAccess = object_access_hook;
    object_access_hook = onObjectAccess;
    RegisterXactCallback(atEndOfTransaction, nullptr);
}

void ordersQueued()
{
    pending.orders = true;
}

void mayCommitLazily(Oid updated, Oid inserted)
{
    pending.lazy = true;
    pending.updated = updated;
    pending.inserted = inserted;
}

} // namespace twilio::lifecycle

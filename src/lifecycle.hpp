// What a backend notices about the life of extensions, databases and orders:
// CREATE and DROP EXTENSION, DROP, RENAME and copy of a database, and the
// commit of a transaction that queued orders or need not wait for the disk.
#pragma once

#include "pg.hpp"

namespace twilio::lifecycle {

void installHooks();

// This transaction queued orders: its commit wakes the worker, once.
void ordersQueued();

// The commit of this transaction does not wait for the disk if all that it does, by its end, is to update rows of the
// one table and to insert rows into the other.
void mayCommitLazily(Oid updated, Oid inserted);

} // namespace twilio::lifecycle

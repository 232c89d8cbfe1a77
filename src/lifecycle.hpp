// What a backend notices about the life of extensions, databases and orders:
// CREATE and DROP EXTENSION, DROP, RENAME and copy of a database, and the
// commit of a transaction that queued orders.
#pragma once

namespace twilio::lifecycle {

void installHooks();

// This transaction queued orders: its commit wakes the worker, once.
void ordersQueued();

} // namespace twilio::lifecycle

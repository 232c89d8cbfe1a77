// The background workers, as the postmaster knows them.
#pragma once

namespace twilio::launcher {

void registerWorker(); // the one launcher of the cluster, from _PG_init

} // namespace twilio::launcher

// A server in use writes pg_control at every checkpoint, an idle one does not; of one that was idle there is little to
// be in doubt about. A base backup that is started without a recovery.signal and a snapshot of a disk look the same: in
// use, and written when they were made. After a clean shutdown nothing can be told.
#include "control_file.hpp"

#include "pg.hpp"

namespace twilio::control_file {

bool wasCutOffLongAgo()
{
    constexpr int oneCheckpoint = 60; // seconds: how long it may take
    bool intact = false;
    auto const* control = get_controlfile(DataDir, &intact);
    return intact && control->state == DB_IN_PRODUCTION &&
           std::time(nullptr) - control->time > CheckPointTimeout + oneCheckpoint;
}

} // namespace twilio::control_file

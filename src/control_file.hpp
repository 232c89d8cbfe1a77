// What pg_control tells before recovery about the life of these files so far.
#pragma once

namespace twilio::control_file {

// For the postmaster, before the startup process has begun: the server that wrote these files was cut off, and that is
// longer ago than it could be if it had just crashed. So these may be a copy, and another server may have gone on.
bool wasCutOffLongAgo();

} // namespace twilio::control_file

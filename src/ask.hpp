// The synchronous exchange between a backend and the worker of its database.
//
// A backend makes a dynamic shared memory segment with its request and an
// shm_mq for the answer, puts the handle into the worker's ring, sets the
// worker's latch and waits. No secret is in the segment: the credential travels
// sealed and is opened by the worker alone. This file is the format of the
// segment, read by ask.cpp (the backend) and ask_desk.cpp (the worker).
#pragma once

#include "compat.hpp"

namespace twilio::ask {

inline constexpr std::uint64_t segmentMagic = 0x7477696c696f4153; // "twilioAS"
inline constexpr std::uint64_t keyHeader = 1;
inline constexpr std::uint64_t keyQueue = 2;
inline constexpr std::uint64_t keyFields = 3;
inline constexpr Size queueSize = 32 * 1024;

// Strings of a request in the order in which they lie in the segment.
enum Field : int { actor, action, object, username, kind, keyId, sealed, method, host, path, form, fieldCount };

struct Header {
    std::atomic<bool> canceled; // the backend no longer waits
    bool counted;               // charge twilio.api_rate_limit
    pg_uuid_t userId;
    TimestampTz deadline;
    std::uint32_t lengths[fieldCount];
};

enum class Verdict : std::int32_t {
    answered,     // status and body are Twilio's
    quota,        // twilio.api_rate_limit
    sealed_wrong, // the credential could not be opened: see message
    misconfigured,
    unreachable,
    timed_out,
    broken,
};

struct AnswerHeader {
    Verdict verdict;
    std::int32_t status;
    std::int32_t errorCode; // Twilio's, 0 when there is none
    std::uint32_t messageLength;
    std::uint32_t bodyLength;
    std::uint64_t auditBatch; // its audit row is visible once Worker::audited has come this far
};

// twilio_private.ask_deadline(): see sql/engine.sql.
TimestampTz deadline();

// twilio_private.ask(): see sql/engine.sql.
Datum exchange(FunctionCallInfo fcinfo);

// Waits until the audit row of the last ask of this backend is visible. The
// worker writes it while the backend is busy with the answer, so there is mostly
// nothing to wait for. Gives up after a moment: the row is late, not lost.
void awaitAudit();

} // namespace twilio::ask

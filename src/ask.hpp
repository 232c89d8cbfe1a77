// The synchronous exchange between a backend and the worker of its database.
//
// A backend writes its request into its slot of shared memory, puts the slot's
// number into the worker's ring, sets the worker's latch and waits; the answer
// comes through the shm_mq in the slot. No secret is in there: the credential
// travels sealed and is opened by the worker alone. This file is the format of
// the slot, read by ask.cpp (the backend) and ask_desk.cpp (the worker).
#pragma once

#include "shared.hpp"

namespace twilio::ask {

inline constexpr Size queueSize = 16 * 1024;
inline constexpr Size fieldsSize = 7 * 1024;

// Strings of a request in the order in which they lie in the slot.
enum Field : int { actor, action, object, username, kind, keyId, sealed, method, host, path, content, contentType };
inline constexpr int fieldCount = contentType + 1;

struct Question {
    bool counted; // charge twilio.api_rate_limit
    pg_uuid_t userId;
    TimestampTz deadline;
    std::uint32_t lengths[fieldCount];
    char fields[fieldsSize];
    alignas(MAXIMUM_ALIGNOF) char queue[queueSize]; // an shm_mq
};
static_assert(sizeof(Question) <= shared::askSize);

inline Question& questionIn(shared::AskSlot& slot)
{
    return *reinterpret_cast<Question*>(slot.ask);
}

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

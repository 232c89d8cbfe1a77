// The backend's side of an ask: submit, wait, and turn the answer into a row or
// an error. However it is given up, by cancel, statement_timeout or the end of
// the backend, the slot says so and the worker is told; it lets go of the slot,
// and only then it is used again. The end of the worker changes the generation
// of its slot, which ends the wait.
#include "ask.hpp"

#include "guard.hpp"
#include "settings.hpp"

namespace twilio::ask {

namespace {

using pg::Failure;

struct Request {
    pg_uuid_t userId{};
    bool counted = true;
    TimestampTz deadline = 0;
    std::array<std::string, fieldCount> fields;

    Size fieldBytes() const
    {
        Size bytes = 0;
        for (const auto& field : fields)
            bytes += field.size();
        return bytes;
    }
};

struct Answer {
    AnswerHeader header{};
    std::string message;
    std::string body;
};

void refuseEarly()
{
    if (XactReadOnly)
        throw Failure("25006", "Twilio cannot be called in a read-only transaction", {},
                      "Call the function in a read-write transaction; through REST, use POST.");
    if (shared::state == nullptr)
        throw Failure("55000", "pg_twilio is not preloaded", {},
                      "Add shared_preload_libraries = 'pg_twilio' to postgresql.conf and restart the server.");
    if (!settings::enabled)
        throw Failure("PT409", "Twilio traffic is switched off", {}, "Set twilio.enabled = on and reload the server.");
}

[[noreturn]] void throwTimedOut()
{
    throw Failure("PT504", "Twilio did not answer in time", {},
                  "Try again, or raise twilio.ask_timeout; twilio_status shows whether the worker is well.");
}

std::string_view argument(FunctionCallInfo fcinfo, int number)
{
    return PG_ARGISNULL(number) ? std::string_view() : pg::argument(fcinfo, number);
}

Request readArguments(FunctionCallInfo fcinfo)
{
    static constexpr Field order[] = {action, object, username, kind,    keyId,      sealed,
                                      method, host,   path,     content, contentType};
    Request request;
    if (PG_ARGISNULL(0) || PG_ARGISNULL(6))
        throw Failure("22004", "an ask needs a user and a sealed credential");
    request.userId = *PG_GETARG_UUID_P(0);
    for (int i = 0; i < 11; i++)
        request.fields[order[i]] = argument(fcinfo, i + 1);
    request.counted = PG_ARGISNULL(12) || PG_GETARG_BOOL(12);
    request.deadline = PG_ARGISNULL(13) ? TimestampTzPlusMilliseconds(GetCurrentTimestamp(), settings::askTimeoutMs)
                                        : PG_GETARG_TIMESTAMPTZ(13);
    request.fields[actor] = pg::guarded([] {
        const char* role = GetConfigOption("role", true, false);
        return role == nullptr || std::strcmp(role, "none") == 0 ? GetUserNameFromId(GetSessionUserId(), false) : role;
    });
    return request;
}

// Waits on the latch, for at most `millis` and not beyond the deadline.
void nap(long millis, TimestampTz deadline)
{
    long const left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
    if (left <= 0)
        throwTimedOut();
    pg::guarded([&] {
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, std::min(left, millis),
                        PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    });
}

enum class Submission { accepted, no_worker, no_room, paused, ring_full, by_worker };

// The ask that this backend waits for.
shared::AskSlot* asking = nullptr;

void giveUp()
{
    if (shared::AskSlot* slot = std::exchange(asking, nullptr); slot != nullptr)
        shared::cancel(*slot);
}

// Sets `latch` to the worker's, to be set once the lock is free: the worker takes it first of all.
Submission enterRing(shared::AskSlot& slot, std::string& note, Latch*& latch)
{
    shared::Locked lock;
    shared::Worker* worker = shared::find(MyDatabaseId);
    if (worker == nullptr)
        return Submission::no_worker;
    if (shared::isMine(*worker))
        return Submission::by_worker;
    switch (worker->state) {
    case shared::WorkerState::no_room:
        return Submission::no_room;
    case shared::WorkerState::paused:
        note = worker->note;
        return Submission::paused;
    case shared::WorkerState::running:
        break;
    case shared::WorkerState::none:
    case shared::WorkerState::starting:
    case shared::WorkerState::absent:
        return Submission::no_worker;
    }
    if (!shared::submit(*worker, slot))
        return Submission::ring_full;
    // Done for the worker, before it can look: when it does so itself, it wakes this backend for nothing.
    shm_mq_set_sender(reinterpret_cast<shm_mq*>(questionIn(slot).queue), worker->process);
    asking = &slot;
    latch = worker->latch;
    return Submission::accepted;
}

Submission submit(shared::AskSlot& slot, std::string& note)
{
    Latch* latch = nullptr;
    Submission const submission = enterRing(slot, note, latch);
    if (latch != nullptr)
        SetLatch(latch);
    return submission;
}

// Hands the slot to the worker; waits for one that is still starting.
void submitWhenUp(shared::AskSlot& slot, TimestampTz deadline)
{
    std::string note;
    for (bool poked = false;;) {
        switch (submit(slot, note)) {
        case Submission::accepted:
            return;
        case Submission::by_worker: // in an app's trigger
            throw Failure("0A000", "Twilio cannot be asked from here",
                          "The worker runs this, and would wait for itself.",
                          "Ask in a session of the app, for instance one that listens to the channel twilio.");
        case Submission::no_room:
            throw Failure("PT502", "the pg_twilio worker cannot start", "No background worker slot is free.",
                          "Raise max_worker_processes and restart the server.");
        case Submission::paused:
            throw Failure(
                "PT502", "the pg_twilio worker is paused", note,
                "Run ALTER EXTENSION pg_twilio UPDATE, and restart the server when the library is the older.");
        case Submission::no_worker:
            if (!poked)
                shared::poke(MyDatabaseId);
            poked = true;
            break;
        case Submission::ring_full:
            break;
        }
        nap(10, deadline);
    }
}

// An ask in this backend's slot, given up unless its answer was received.
class Asking {
public:
    explicit Asking(const Request& request) : slot_(shared::ownSlot()), deadline_(request.deadline)
    {
        static bool const givesUpAtExit = [] {
            pg::guarded([] { before_shmem_exit([](int, Datum) { giveUp(); }, 0); });
            return true;
        }();
        (void)givesUpAtExit;
        // The worker may still be about to let go of the last one.
        while (shared::isTaken(slot_))
            nap(1, deadline_);
        write(request);
        submitWhenUp(slot_, deadline_);
    }
    ~Asking() { giveUp(); }
    Asking(const Asking&) = delete;
    Asking& operator=(const Asking&) = delete;

    Answer receive();

private:
    void write(const Request& request)
    {
        if (request.fieldBytes() > fieldsSize)
            throw Failure("54000", "the request to Twilio is too long",
                          "It has " + std::to_string(request.fieldBytes()) + " bytes.", "Ask for less at once.");
        Question& question = questionIn(slot_);
        question.counted = request.counted;
        question.userId = request.userId;
        question.deadline = request.deadline;
        char* end = question.fields;
        for (int i = 0; i < fieldCount; i++) {
            question.lengths[i] = static_cast<std::uint32_t>(request.fields[i].size());
            end = std::copy(request.fields[i].begin(), request.fields[i].end(), end);
        }
        queue_ = pg::guarded([&] {
            shm_mq* queue = shm_mq_create(question.queue, queueSize);
            shm_mq_set_receiver(queue, MyProc);
            return shm_mq_attach(queue, nullptr, nullptr);
        });
    }

    shared::AskSlot& slot_;
    TimestampTz deadline_;
    shm_mq_handle* queue_ = nullptr; // in the memory of the call
};

// Where to look for the audit row of the last ask.
struct Audited {
    shared::Worker* worker = nullptr;
    std::uint64_t generation = 0;
    std::uint64_t batch = 0;
} lastAudited;

[[noreturn]] void throwWorkerGone()
{
    throw Failure("PT502", "the pg_twilio worker stopped before it answered", {},
                  "Try again; the server log says why it stopped.");
}

Answer Asking::receive()
{
    // The worker keeps the deadline; this side allows it a little time to say so.
    TimestampTz const patience = TimestampTzPlusMilliseconds(deadline_, 250);
    for (;;) {
        bool const held = shared::isTaken(slot_);
        void* data = nullptr;
        Size bytes = 0;
        if (pg::guarded([&] { return shm_mq_receive(queue_, &bytes, &data, true); }) == SHM_MQ_SUCCESS) {
            asking = nullptr;
            Answer answer;
            std::memcpy(&answer.header, data, sizeof(AnswerHeader));
            const char* text = static_cast<const char*>(data) + sizeof(AnswerHeader);
            answer.message.assign(text, answer.header.messageLength);
            answer.body.assign(text + answer.header.messageLength, answer.header.bodyLength);
            lastAudited = {slot_.worker, slot_.generation, answer.header.auditBatch};
            return answer;
        }
        if (!held)
            throwWorkerGone();
        nap(5000, patience);
    }
}

[[noreturn]] void throwBadAnswer(std::string detail)
{
    throw Failure("PT502", "Twilio's answer could not be used", std::move(detail),
                  "Try again later; https://status.twilio.com shows known trouble.");
}

std::string describe(const Answer& answer)
{
    std::string text = "HTTP status " + std::to_string(answer.header.status);
    if (answer.header.errorCode != 0)
        text += ", Twilio error " + std::to_string(answer.header.errorCode);
    if (!answer.message.empty())
        text += ": " + answer.message;
    return text;
}

void refuseIndefinite(const Answer& answer)
{
    switch (answer.header.verdict) {
    case Verdict::answered:
        break;
    case Verdict::quota:
        throw Failure("PT429", "too many calls to Twilio", "twilio.api_rate_limit is reached for this user.",
                      "Wait a minute and try again.");
    case Verdict::sealed_wrong:
        throw Failure("PT409", "the stored Twilio credential cannot be opened", answer.message,
                      "Restore the key file, or store the credential again.");
    case Verdict::misconfigured:
        throw Failure("PT502", "pg_twilio is not configured correctly", answer.message,
                      "Correct the setting and reload the server.");
    case Verdict::unreachable:
        throw Failure("PT502", "Twilio cannot be reached", answer.message,
                      "Check the server's network, DNS and twilio.ca_file, and try again.");
    case Verdict::timed_out:
        throwTimedOut();
    case Verdict::broken:
        throwBadAnswer(answer.message);
    }
    if (answer.header.status == 408) // of a proxy that gave up
        throwTimedOut();
    if (answer.header.status == 429)
        throw Failure("PT429", "Twilio asks to slow down", describe(answer), "Try again in a few seconds.");
    if (answer.header.status >= 500 || answer.header.status < 200 ||
        (answer.header.status >= 300 && answer.header.status < 400))
        throwBadAnswer(describe(answer));
}

// The body as jsonb; an error of the parser means that Twilio's text was no JSON.
Datum parseBody(const std::string& body)
{
    try {
        return pg::guarded([&] {
            if (body.find('\0') != std::string::npos ||
                !pg_verify_mbstr(PG_UTF8, body.data(), static_cast<int>(body.size()), true))
                ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION), errmsg("not UTF-8")));
            char* text = pg_any_to_server(body.c_str(), static_cast<int>(body.size()), PG_UTF8);
            return DirectFunctionCall1(jsonb_in, CStringGetDatum(text));
        });
    } catch (const pg::Error&) {
        throwBadAnswer("It is not complete JSON.");
    }
}

Datum toRow(FunctionCallInfo fcinfo, const Answer& answer)
{
    bool const refused = answer.header.status >= 400;
    bool nulls[4] = {false, !refused || answer.header.errorCode == 0, !refused, answer.body.empty()};
    Datum values[4] = {};
    values[0] = Int32GetDatum(answer.header.status);
    values[1] = Int32GetDatum(answer.header.errorCode);
    if (answer.body.empty() && !refused && answer.header.status != 204)
        throwBadAnswer("It is empty.");
    if (!answer.body.empty())
        values[3] = parseBody(answer.body);
    return pg::guarded([&] {
        if (refused)
            values[2] = pg::toDatum(answer.message);
        return pg::toRow(fcinfo, values, nulls);
    });
}

} // namespace

TimestampTz deadline()
{
    refuseEarly();
    return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), settings::askTimeoutMs);
}

Datum exchange(FunctionCallInfo fcinfo)
{
    refuseEarly();
    Request const request = readArguments(fcinfo);
    Answer const answer = Asking(request).receive();
    try {
        refuseIndefinite(answer);
        return toRow(fcinfo, answer);
    } catch (...) {
        awaitAudit();
        throw;
    }
}

void awaitAudit()
{
    constexpr int naps = 5000;
    constexpr long napMicros = 50;
    auto const [worker, generation, batch] = lastAudited;
    for (int i = 0; worker != nullptr && i < naps; i++) {
        if (worker->generation != generation || worker->audited.load(std::memory_order_acquire) >= batch)
            return;
        pg_usleep(napMicros);
    }
}

} // namespace twilio::ask

// Attaching, starting, canceling and answering asks.
#include "ask_desk.hpp"

#include "ask.hpp"
#include "destination.hpp"
#include "json_scan.hpp"
#include "settings.hpp"

namespace twilio {

namespace {

using ask::Verdict;
using pg::Failure;
using std::chrono::milliseconds;

milliseconds until(TimestampTz deadline)
{
    return milliseconds(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline));
}

Verdict verdictOf(const Reply& reply, TimestampTz deadline)
{
    switch (reply.transport) {
    case Transport::answered:
        return Verdict::answered;
    case Transport::unreachable:
        // A deadline that passed before a byte was sent says nothing about Twilio.
        return until(deadline) <= milliseconds(1) ? Verdict::timed_out : Verdict::unreachable;
    case Transport::timed_out:
        return Verdict::timed_out;
    case Transport::lost:
    case Transport::too_large:
    case Transport::canceled:
        break;
    }
    return Verdict::broken;
}

} // namespace

struct AskDesk::Ask {
    std::uint64_t id = 0;
    shared::AskSlot& slot;
    ask::Question& question;
    shm_mq_handle* queue = nullptr;
    std::array<std::string_view, ask::fieldCount> fields; // in the slot
    bool started = false;
    Reply reply;
    std::string answer; // header, message and body, as they go through the queue

    explicit Ask(shared::AskSlot& slot) : slot(slot), question(ask::questionIn(slot))
    {
        const char* bytes = question.fields;
        for (int i = 0; i < ask::fieldCount; i++) {
            fields[i] = {bytes, question.lengths[i]};
            bytes += question.lengths[i];
        }
    }
    // The slot is its backend's again, without what it has sent. The queue is not detached, which would wake it once
    // more.
    ~Ask()
    {
        std::string_view const sent = fields[ask::content];
        ::explicit_bzero(const_cast<char*>(sent.data()), sent.size());
        if (queue != nullptr)
            pfree(queue);
        slot.taken.store(false, std::memory_order_release);
    }
    Ask(const Ask&) = delete;
    Ask& operator=(const Ask&) = delete;

    void nameAuditBatch(std::uint64_t batch)
    {
        std::memcpy(answer.data() + offsetof(ask::AnswerHeader, auditBatch), &batch, sizeof(batch));
    }
    bool canceled() const { return slot.canceled.load(std::memory_order_acquire); }
    void compose(Verdict verdict, int errorCode, std::string_view message)
    {
        ask::AnswerHeader const head{verdict,
                                     static_cast<std::int32_t>(reply.status),
                                     errorCode,
                                     static_cast<std::uint32_t>(message.size()),
                                     static_cast<std::uint32_t>(reply.body.size()),
                                     0};
        answer.assign(reinterpret_cast<const char*>(&head), sizeof(head));
        answer.append(message).append(reply.body);
    }
};

AskDesk::AskDesk(HttpEngine& engine, shared::Worker& worker, secrets::Cache& credentials, std::uint64_t& lastId)
    : engine_(engine), worker_(worker), credentials_(credentials), lastId_(lastId), quota_(settings::apiRateLimit)
{
}

AskDesk::~AskDesk() = default;

void AskDesk::reload()
{
    quota_.setLimit(settings::apiRateLimit);
}

void AskDesk::admit()
{
    while (shared::AskSlot* slot = shared::takeAsk(worker_))
        attach(*slot);
    if (std::uint32_t const seen = worker_.cancellations; seen != cancellationsSeen_) {
        cancellationsSeen_ = seen;
        dropCanceled();
    }
    startWaiting();
}

void AskDesk::attach(shared::AskSlot& slot)
{
    auto ask = std::make_unique<Ask>(slot);
    if (ask->canceled())
        return;
    ask->queue = pg::guarded([&] {
        MemoryContext const old = MemoryContextSwitchTo(TopMemoryContext);
        shm_mq_handle* const handle = shm_mq_attach(reinterpret_cast<shm_mq*>(ask->question.queue), nullptr, nullptr);
        MemoryContextSwitchTo(old);
        return handle;
    });
    ask->id = ++lastId_;
    waiting_.push_back(ask.get());
    asks_.emplace(ask->id, std::move(ask));
}

void AskDesk::startWaiting()
{
    auto const room = static_cast<std::size_t>(settings::maxInFlight);
    std::size_t taken = 0;
    while (taken < waiting_.size() && inFlight_ < room) {
        Ask& ask = *waiting_[taken++];
        if (ask.question.counted && !quota_.take(TenantId::from(ask.question.userId.data), Clock::now())) {
            ask.compose(Verdict::quota, 0, {});
            finished_.push_back(&ask);
            continue;
        }
        try {
            start(ask);
        } catch (const Failure& failure) {
            ask.compose(failure.code() == ERRCODE_CONFIG_FILE_ERROR ? Verdict::misconfigured : Verdict::sealed_wrong, 0,
                        failure.detail);
            finished_.push_back(&ask);
        } catch (const pg::Error& error) {
            pg::logError(error, "opening a credential");
            ask.compose(Verdict::sealed_wrong, 0, error.what());
            finished_.push_back(&ask);
        }
    }
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(taken));
}

void AskDesk::start(Ask& ask)
{
    std::string url = destination(ask.fields[ask::host], ask.fields[ask::path]);
    secrets::Owner const owner{ask.question.userId, ask.fields[ask::kind]};
    std::string_view const sealed = ask.fields[ask::sealed];
    const Secret* secret = credentials_.find(owner, ask.fields[ask::keyId], sealed);
    if (secret == nullptr) {
        pg::Transaction transaction("pg_twilio: opening a credential");
        secret = &credentials_.open(owner, ask.fields[ask::keyId], sealed);
        transaction.commit();
    }
    Request request;
    request.id = ask.id;
    request.method = ask.fields[ask::method];
    request.url = std::move(url);
    request.body = ask.fields[ask::content];
    request.contentType = ask.fields[ask::contentType];
    request.username = ask.fields[ask::username];
    request.password = secret->copy();
    request.timeout =
        std::clamp(until(ask.question.deadline), milliseconds(1), milliseconds(settings::requestTimeoutMs));
    ask.started = true;
    inFlight_++;
    engine_.start(std::move(request));
}

bool AskDesk::take(Reply& reply)
{
    auto found = asks_.find(reply.id);
    if (found == asks_.end())
        return false;
    Ask& ask = *found->second;
    inFlight_--;
    ask.reply = std::move(reply);
    blankSecrets(ask.reply.body);
    Verdict const verdict = verdictOf(ask.reply, ask.question.deadline);
    if (verdict == Verdict::answered && ask.reply.status >= 400) {
        Refusal const refusal = explain(ask.reply);
        ask.compose(verdict, refusal.code, refusal.message);
    } else if (verdict != Verdict::answered) {
        ask.reply.body.clear();
        ask.compose(verdict, 0, ask.reply.error);
    } else {
        ask.compose(verdict, 0, {});
    }
    finished_.push_back(&ask);
    return true;
}

void AskDesk::note(AuditTrail& audit, Ask& ask)
{
    AuditRow row;
    row.at = GetCurrentTimestamp();
    row.user = ask.question.userId;
    row.actor = ask.fields[ask::actor];
    row.action = ask.fields[ask::action];
    row.object = ask.fields[ask::object];
    row.outcome = auditOutcome(ask.reply);
    row.requestId = ask.reply.requestId;
    row.status = static_cast<int>(ask.reply.status);
    row.errorCode = ask.reply.status >= 400 ? explain(ask.reply).code : 0;
    row.durationMs = static_cast<int>(ask.reply.duration.count() / 1000);
    audit.add(std::move(row));
    logRequest(ask.fields[ask::method], ask.fields[ask::path], ask.reply);
    if (ask.reply.transport != Transport::answered)
        shared::noteError(worker_, ask.reply.error);
}

void AskDesk::answer(AuditTrail& audit)
{
    for (Ask* ask : finished_)
        if (std::exchange(ask->started, false)) {
            note(audit, *ask);
            ask->nameAuditBatch(worker_.audited + 1);
            batchOpen_ = true;
        }
    push();
    if (audit.write() && std::exchange(batchOpen_, false))
        worker_.audited.fetch_add(1, std::memory_order_release);
}

// Sends as much of each answer as fits; the rest when its reader has made room.
void AskDesk::push()
{
    std::erase_if(finished_, [this](Ask* ask) {
        if (ask->canceled()) {
            asks_.erase(ask->id);
            return true;
        }
        shm_mq_result const result =
            pg::guarded([&] { return pg::sendNowait(ask->queue, ask->answer.size(), ask->answer.data()); });
        if (result == SHM_MQ_WOULD_BLOCK)
            return false;
        worker_.counters.asksAnswered++;
        asks_.erase(ask->id);
        return true;
    });
}

void AskDesk::dropCanceled()
{
    std::erase_if(waiting_, [this](Ask* ask) {
        if (!ask->canceled())
            return false;
        asks_.erase(ask->id);
        return true;
    });
    for (auto& [id, ask] : asks_)
        if (ask->started && ask->canceled())
            engine_.cancel(id);
}

} // namespace twilio

// A reply is read here, and its tenant's pace follows; what becomes of its order is order_result.cpp's.
#include "sender.hpp"

#include "json_scan.hpp"
#include "retry.hpp"

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

void Sender::add(Order order, Request request)
{
    ready_.push_back({std::move(order), std::move(request)});
}

bool Sender::pump(const Recall& recall)
{
    engine_.pump(recall);
    while (auto reply = engine_.next())
        if (!take(*reply))
            others_.push_back(std::move(*reply));
    return start();
}

// A process that was stopped, or a machine, goes on with what it has claimed long ago.
bool Sender::start()
{
    std::size_t started = 0;
    auto const now = std::chrono::floor<std::chrono::microseconds>(std::chrono::system_clock::now());
    for (auto next = ready_.begin(); next != ready_.end() && mayStart() && started < startedAtOnce;) {
        auto const here = next++;
        TenantId const user = here->order.user;
        if (here->order.expiresAt && here->order.expiresAt <= now) {
            turns_.released(user);
            refused_.push_back({std::move(here->order), "expired", {}});
        } else if (const Refusal* why = turns_.refusal(user); why != nullptr) {
            turns_.released(user);
            refused_.push_back({std::move(here->order), "account", *why});
        } else if (!turns_.isListed(user)) {
            turns_.released(user);
            refused_.push_back({std::move(here->order), "retry", {}});
        } else if (turns_.mayStart(user)) {
            turns_.started(user);
            inFlight_.emplace(here->request.id, std::move(here->order));
            engine_.start(std::move(here->request));
            started++;
        } else {
            continue;
        }
        ready_.erase(here);
    }
    return started > 0;
}

bool Sender::take(Reply& reply)
{
    auto node = inFlight_.extract(reply.id);
    if (node.empty())
        return false;
    Order& order = node.mapped();
    auto const now = Clock::now();
    blankSecrets(reply.body);
    Outcome outcome = interpret(reply, now, order.attempts, random01());
    turns_.finished(order.user);
    if (reply.transport == Transport::answered && std::holds_alternative<RetryAt>(outcome))
        turns_.slowDown(order.user, now);
    else if (std::holds_alternative<Sent>(outcome))
        succeed(order, reply);
    else if (const auto* rejected = std::get_if<Rejected>(&outcome); rejected != nullptr && rejected->accountTrouble)
        turns_.refuse(order.user, {rejected->code, rejected->message});
    answeredBytes_ += reply.body.size();
    answered_.push_back({std::move(order), std::move(reply), std::move(outcome)});
    return true;
}

void Sender::succeed(const Order& order, Reply& reply)
{
    turns_.succeeded(order.user);
    if (!order.answerMembers.empty())
        reply.body = onlyMembers(reply.body, order.answerMembers);
}

std::vector<Sender::Answered> Sender::takeAnswered()
{
    answeredBytes_ = 0;
    return std::exchange(answered_, {});
}

std::vector<std::int64_t> Sender::readyIds() const
{
    std::vector<std::int64_t> ids;
    for (const Ready& each : ready_)
        ids.push_back(each.order.id);
    return ids;
}

void Sender::giveBackReady()
{
    for (const Ready& each : ready_)
        turns_.released(each.order.user);
    ready_.clear();
}

std::optional<Reply> Sender::nextOther()
{
    if (others_.empty())
        return std::nullopt;
    Reply reply = std::move(others_.front());
    others_.pop_front();
    return reply;
}

} // namespace twilio

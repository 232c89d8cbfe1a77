// The table of Twilio's answers: status and code to an outcome and a sentence.
#include "reply.hpp"

#include <algorithm>
#include <limits>

#include "json_check.hpp"
#include "json_scan.hpp"
#include "retry.hpp"

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

constexpr std::size_t longestMessage = 1000;
constexpr int tooManyRequests = 20429;
constexpr std::chrono::minutes untilThereIsRoom{5};

struct StatusText {
    long status;
    int code;
    const char* sentence;
};

// What the HTTP status alone tells. The codes are the ones Twilio itself uses for these cases.
constexpr StatusText statusTexts[] = {
    {400, 20001, "Twilio found the request invalid"},
    {401, 20003, "Twilio refused the credentials"},
    {403, 20403, "Twilio denied access; the account may be suspended or closed"},
    {404, 20404, "Twilio does not know this resource"},
    {405, 20004, "Twilio does not allow this method here"},
    {409, 20409, "the resource is in a state that does not allow this"},
    {410, 20410, "Twilio has withdrawn this resource"},
    {422, 20422, "Twilio found a parameter invalid"},
    {429, tooManyRequests, "Twilio received too many requests at once"},
    {500, 20500, "Twilio had an internal error"},
    {503, 20503, "Twilio is not available"},
};

bool isSuccess(long status)
{
    return status >= 200 && status < 300;
}
bool isRefusal(long status)
{
    return status >= 400 && status < 500;
}

// A proxy answers 408 when it gave up on somebody; whether the request had gone on by then nobody tells.
bool isDefinite(long status)
{
    return isRefusal(status) && status != 408;
}

// Nothing is wrong with what was asked for: the account has as many calls as it may have at once (10004), the sender's
// queue is full (21611), it could not be stored (21619), maintenance (21730).
bool hasNoRoom(int code)
{
    return code == 10004 || code == 21611 || code == 21619 || code == 21730;
}

std::string shortened(std::string text)
{
    if (text.size() > longestMessage) {
        std::size_t end = longestMessage;
        while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80)
            end--;
        text.resize(end);
    }
    return text;
}

Refusal explainByStatus(long status)
{
    for (const StatusText& text : statusTexts)
        if (text.status == status)
            return {text.code, text.sentence};
    return {0, "Twilio answered with HTTP status " + std::to_string(status)};
}

Outcome retryLater(const Reply& reply, Refusal why, TimePoint now, int attempt, double random01)
{
    return RetryAt{now + backoff(attempt, reply.retryAfter, random01), why.code, std::move(why.message)};
}

Outcome interpretAnswer(const Reply& reply, TimePoint now, int attempt, double random01)
{
    if (isSuccess(reply.status)) {
        if (!isWellFormed(reply))
            return Unknown{"Twilio accepted the request, but its answer is broken"};
        return Sent{topLevelString(reply.body, "sid").value_or("")};
    }
    Refusal why = explain(reply);
    if (reply.status == 429 || (isRefusal(reply.status) && why.code == tooManyRequests))
        return retryLater(reply, std::move(why), now, attempt, random01);
    if (isRefusal(reply.status) && hasNoRoom(why.code))
        return RetryAt{now + backoff(attempt, reply.retryAfter.value_or(untilThereIsRoom), random01), why.code,
                       std::move(why.message)};
    if (isDefinite(reply.status))
        return Rejected{why.code, std::move(why.message), isAccountTrouble(reply.status, why.code)};
    return Unknown{std::move(why.message)};
}

} // namespace

Outcome interpret(const Reply& reply, TimePoint now, int attempt, double random01)
{
    switch (reply.transport) {
    case Transport::answered:
        return interpretAnswer(reply, now, attempt, random01);
    case Transport::unreachable:
        return retryLater(reply, {0, "Twilio could not be reached: " + reply.error}, now, attempt, random01);
    case Transport::timed_out:
        return Unknown{"Twilio did not answer in time"};
    case Transport::lost:
        return Unknown{"the connection broke before Twilio answered: " + reply.error};
    case Transport::too_large:
        if (isDefinite(reply.status))
            return interpretAnswer(reply, now, attempt, random01);
        return Unknown{"Twilio's answer is larger than twilio.max_response_size"};
    case Transport::canceled:
        return Unknown{"the request was canceled on its way"};
    }
    return Unknown{"the request ended in no known way"};
}

Refusal explain(const Reply& reply)
{
    Refusal refusal = explainByStatus(reply.status);
    if (!looksComplete(reply.body))
        return refusal;
    const auto code = topLevelInteger(reply.body, "code");
    if (code && *code > 0 && *code <= std::numeric_limits<int>::max())
        refusal.code = static_cast<int>(*code);

    // "message" is Twilio's classic body; "detail" and "title" are those of RFC 9457.
    for (const char* member : {"message", "detail", "title"}) {
        auto text = topLevelString(reply.body, member);
        if (text && !text->empty()) {
            refusal.message = shortened(std::move(*text));
            break;
        }
    }
    return refusal;
}

bool isAccountTrouble(long status, int code)
{
    if (!isRefusal(status) || status == 429)
        return false;
    constexpr int codes[] = {10001, 20003, 20005, 20006, 20403};
    return status == 401 || std::find(std::begin(codes), std::end(codes), code) != std::end(codes);
}

bool isWellFormed(const Reply& reply)
{
    if (reply.transport != Transport::answered)
        return false;
    if (reply.body.empty())
        return reply.status == 204 || isRefusal(reply.status);
    return looksComplete(reply.body);
}

std::string auditOutcome(const Reply& reply)
{
    switch (reply.transport) {
    case Transport::answered:
        if (reply.status == 429)
            return "rate limited";
        if (reply.status == 408)
            return "timeout";
        if (isRefusal(reply.status))
            return "refused";
        if (reply.status >= 500)
            return "server error";
        return isSuccess(reply.status) && isWellFormed(reply) ? "ok" : "broken";
    case Transport::unreachable:
        return "unreachable";
    case Transport::timed_out:
        return "timeout";
    case Transport::lost:
    case Transport::too_large:
        return "broken";
    case Transport::canceled:
        return "canceled";
    }
    return "broken";
}

} // namespace twilio

#include "reply.hpp"

#include <gtest/gtest.h>

using namespace std::chrono_literals;
using namespace twilio;

namespace {

const TimePoint now = TimePoint() + 1000h;

Reply answer(long status, std::string body)
{
    Reply reply;
    reply.transport = Transport::answered;
    reply.status = status;
    reply.body = std::move(body);
    return reply;
}

Reply failure(Transport transport)
{
    Reply reply;
    reply.transport = transport;
    reply.error = "as curl says";
    return reply;
}

Outcome interpretNow(const Reply& reply)
{
    return interpret(reply, now, 1, 0.5);
}

std::string error(int code, const std::string& message)
{
    return R"({"code":)" + std::to_string(code) + R"(,"message":")" + message +
           R"(","more_info":"https://x","status":400})";
}

} // namespace

TEST(Interpret, aCreatedResourceIsSent)
{
    const Outcome outcome = interpretNow(answer(201, R"({"sid":"SM1","status":"queued"})"));
    ASSERT_TRUE(std::holds_alternative<Sent>(outcome));
    EXPECT_EQ(std::get<Sent>(outcome).sid, "SM1");
    EXPECT_TRUE(std::holds_alternative<Sent>(interpretNow(answer(204, ""))));
}

TEST(Interpret, successWithABrokenBodyIsUnknown)
{
    for (const char* body : {"", "<html>", R"({"sid":"SM1)", R"({"sid":"SM1"}})"})
        EXPECT_TRUE(std::holds_alternative<Unknown>(interpretNow(answer(201, body)))) << body;
}

TEST(Interpret, refusalIsForGood)
{
    const Outcome outcome = interpretNow(answer(400, error(21211, "Invalid 'To' Phone Number")));
    ASSERT_TRUE(std::holds_alternative<Rejected>(outcome));
    const auto& rejected = std::get<Rejected>(outcome);
    EXPECT_EQ(rejected.code, 21211);
    EXPECT_EQ(rejected.message, "Invalid 'To' Phone Number");
    EXPECT_FALSE(rejected.accountTrouble);
}

TEST(Interpret, accountTroubleIsTold)
{
    for (const auto& [status, code] :
         {std::pair{401, 20003}, {403, 20403}, {403, 20005}, {403, 10001}, {403, 20006}, {400, 10001}, {401, 70051}}) {
        const Outcome outcome = interpretNow(answer(status, error(code, "no")));
        ASSERT_TRUE(std::holds_alternative<Rejected>(outcome)) << code;
        EXPECT_TRUE(std::get<Rejected>(outcome).accountTrouble) << code;
        EXPECT_EQ(std::get<Rejected>(outcome).code, code);
    }
    for (const auto& [status, code] : {std::pair{403, 20008}, {400, 21610}, {404, 20404}})
        EXPECT_FALSE(std::get<Rejected>(interpretNow(answer(status, error(code, "no")))).accountTrouble) << code;
}

TEST(Interpret, tooManyRequestsAreRetried)
{
    Reply reply = answer(429, error(20429, "Too Many Requests"));
    reply.retryAfter = 7s;
    const Outcome outcome = interpretNow(reply);
    ASSERT_TRUE(std::holds_alternative<RetryAt>(outcome));
    EXPECT_EQ(std::get<RetryAt>(outcome).at, now + 7500ms);
    EXPECT_EQ(std::get<RetryAt>(outcome).code, 20429);
    EXPECT_EQ(std::get<RetryAt>(interpretNow(answer(429, "<html>"))).code, 20429);
    EXPECT_TRUE(std::holds_alternative<RetryAt>(interpretNow(answer(400, error(20429, "x")))));
}

TEST(Interpret, whatTwilioHasNoRoomForIsRetriedMuchLater)
{
    for (const int code : {10004, 21611, 21619, 21730}) {
        const Outcome outcome = interpretNow(answer(400, error(code, "not now")));
        ASSERT_TRUE(std::holds_alternative<RetryAt>(outcome)) << code;
        EXPECT_EQ(std::get<RetryAt>(outcome).at, now + 5min + 500ms);
        EXPECT_EQ(std::get<RetryAt>(outcome).message, "not now");
    }
    Reply reply = answer(400, error(21611, "not now"));
    reply.retryAfter = 7s;
    EXPECT_EQ(std::get<RetryAt>(interpretNow(reply)).at, now + 7500ms);
}

TEST(Interpret, whatNeverLeftIsRetriedLaterAndLater)
{
    const Reply reply = failure(Transport::unreachable);
    EXPECT_EQ(std::get<RetryAt>(interpret(reply, now, 1, 1.0)).at, now + 1s);
    EXPECT_EQ(std::get<RetryAt>(interpret(reply, now, 4, 1.0)).at, now + 8s);
    EXPECT_NE(std::get<RetryAt>(interpretNow(reply)).message.find("as curl says"), std::string::npos);
}

TEST(Interpret, whatMayHaveArrivedIsUnknown)
{
    for (const Transport transport : {Transport::timed_out, Transport::lost, Transport::too_large, Transport::canceled})
        EXPECT_TRUE(std::holds_alternative<Unknown>(interpretNow(failure(transport))));
    for (const long status : {500L, 502L, 503L, 504L, 408L, 302L, 307L, 100L, 0L})
        EXPECT_TRUE(std::holds_alternative<Unknown>(interpretNow(answer(status, error(20500, "x"))))) << status;
}

TEST(Interpret, anEndlessRefusalIsStillARefusal)
{
    Reply reply = failure(Transport::too_large);
    reply.status = 400;
    reply.body = R"({"code":21211,"mess)";
    EXPECT_TRUE(std::holds_alternative<Rejected>(interpretNow(reply)));
    reply.status = 201;
    EXPECT_TRUE(std::holds_alternative<Unknown>(interpretNow(reply)));
}

TEST(Explain, readsBothKindsOfBody)
{
    EXPECT_EQ(explain(answer(400, error(21610, "unsubscribed"))).message, "unsubscribed");
    const Refusal modern =
        explain(answer(400, R"({"type":"t","title":"Bad","status":400,"code":20001,"detail":"more","errors":[]})"));
    EXPECT_EQ(modern.code, 20001);
    EXPECT_EQ(modern.message, "more");
    EXPECT_EQ(explain(answer(400, R"({"type":"t","title":"Bad","status":400,"code":20001})")).message, "Bad");
}

TEST(Explain, fallsBackToTheStatus)
{
    for (const char* body : {"", "<html>no</html>", R"({"code":21211,"message":"cut)", "{}", R"({"code":"x"})"}) {
        EXPECT_EQ(explain(answer(401, body)).code, 20003) << body;
        EXPECT_EQ(explain(answer(404, body)).code, 20404) << body;
        EXPECT_EQ(explain(answer(429, body)).code, 20429) << body;
        EXPECT_FALSE(explain(answer(403, body)).message.empty()) << body;
    }
    EXPECT_EQ(explain(answer(418, "")).code, 0);
    EXPECT_EQ(explain(answer(418, "")).message, "Twilio answered with HTTP status 418");
}

TEST(Explain, keepsMessagesShortAndWhole)
{
    std::string text;
    for (int i = 0; i < 2000; i++)
        text += "\xC3\xA9";
    const std::string message = explain(answer(400, error(1, "x" + text))).message;
    EXPECT_EQ(message.size(), 999u);
    EXPECT_EQ(static_cast<unsigned char>(message.back()), 0xA9);
}

TEST(Explain, acceptsNoAbsurdCode)
{
    EXPECT_EQ(explain(answer(400, R"({"code":-1})")).code, 20001);
    EXPECT_EQ(explain(answer(400, R"({"code":99999999999})")).code, 20001);
}

TEST(AuditOutcome, hasAWordForEveryEnd)
{
    EXPECT_EQ(auditOutcome(answer(200, "{}")), "ok");
    EXPECT_EQ(auditOutcome(answer(204, "")), "ok");
    EXPECT_EQ(auditOutcome(answer(200, "<html>")), "broken");
    EXPECT_EQ(auditOutcome(answer(200, "")), "broken");
    EXPECT_EQ(auditOutcome(answer(302, "")), "broken");
    EXPECT_EQ(auditOutcome(answer(400, "")), "refused");
    EXPECT_EQ(auditOutcome(answer(408, "")), "timeout");
    EXPECT_EQ(auditOutcome(answer(429, "")), "rate limited");
    EXPECT_EQ(auditOutcome(answer(503, "")), "server error");
    EXPECT_EQ(auditOutcome(failure(Transport::unreachable)), "unreachable");
    EXPECT_EQ(auditOutcome(failure(Transport::timed_out)), "timeout");
    EXPECT_EQ(auditOutcome(failure(Transport::lost)), "broken");
    EXPECT_EQ(auditOutcome(failure(Transport::too_large)), "broken");
    EXPECT_EQ(auditOutcome(failure(Transport::canceled)), "canceled");
}

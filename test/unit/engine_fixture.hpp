// An engine, and servers for it to talk to under Twilio's name.
#pragma once

#include <memory>

#include <curl/curl.h>
#include <gtest/gtest.h>
#include <poll.h>

#include "certificates.hpp"
#include "clock.hpp"
#include "http_engine.hpp"
#include "tls_server.hpp"

namespace twilio::test {

class EngineTest : public testing::Test {
protected:
    using Handler = TlsServer::Handler;

    static void SetUpTestSuite() { HttpEngine::prepareProcess(); }
    static void TearDownTestSuite() { curl_global_cleanup(); }

    static constexpr auto patience = std::chrono::seconds(20);

    TlsServer& serve(Handler handler, bool http2 = false, const std::string& names = "DNS:api.twilio.com")
    {
        server_ = std::make_unique<TlsServer>(authority_.issue(names), http2, std::move(handler));
        return *server_;
    }

    Options options() const
    {
        Options options;
        options.caFile = authority_.file();
        options.connectTo = server_ ? server_->place() : "127.0.0.1:1";
        options.userAgent = "pg_twilio/test";
        options.requestTimeout = std::chrono::seconds(10);
        return options;
    }

    static Request post(std::uint64_t id, std::string body = "To=%2B1555&Body=x")
    {
        Request request;
        request.id = id;
        request.method = "POST";
        request.url = "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages.json";
        request.body = std::move(body);
        request.username = "AC1";
        request.password = Secret(std::string_view("token"));
        return request;
    }

    static Request get(std::uint64_t id)
    {
        Request request = post(id, "");
        request.method = "GET";
        return request;
    }

    // As the owner's loop does: sleep on the descriptor, pump, collect.
    static Reply wait(HttpEngine& engine)
    {
        const TimePoint end = Clock::now() + patience;
        for (;;) {
            engine.pump();
            if (auto reply = engine.next())
                return std::move(*reply);
            if (Clock::now() > end) {
                ADD_FAILURE() << "no reply";
                return {};
            }
            pollfd descriptor{engine.descriptor(), POLLIN, 0};
            const auto millis = engine.waitMillis().count();
            ::poll(&descriptor, 1, static_cast<int>(millis < 0 || millis > 1000 ? 1000 : millis));
        }
    }

    static Reply ask(HttpEngine& engine, Request request)
    {
        engine.start(std::move(request));
        return wait(engine);
    }

    Authority authority_{"test authority"};
    std::unique_ptr<TlsServer> server_;
};

inline Answer respond(int status, std::string body = "{}")
{
    Answer answer;
    answer.status = status;
    answer.body = std::move(body);
    return answer;
}

inline Answer misbehave(Answer::Kind kind)
{
    Answer answer;
    answer.kind = kind;
    return answer;
}

} // namespace twilio::test

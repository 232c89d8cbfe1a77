// The ceiling: what a plain C++ process reaches that does the same SQL over libpq and the same POSTs with curl_multi,
// knowing nothing of tenants, breakers, secrets or crashes. Claims and records each have a connection of their own, so
// the database works while this process does; the worker of the extension must do both itself.
//
//   ceiling same|bare MESSAGES IN_FLIGHT 1|2       the last: the version of HTTP
//
// same: the extension's own claim_orders, record_orders and record_requests on its own tables, the worker switched off.
// bare: one narrow table, one UPDATE to claim, one UPDATE … FROM unnest to record. No history, no events, no audit.
#include "measure.hpp"

#include <cstring>
#include <deque>
#include <utility>

#include <curl/curl.h>
#include <sys/epoll.h>

using namespace bench;

namespace {

constexpr std::size_t recordAtOnce = 100; // as src/recorder.cpp
constexpr double recordWithin = 0.05;
constexpr std::size_t claimAtMost = 500;

struct Sql {
    const char* prepare;
    const char* fill; // with the number of messages for %ld
    const char* claim;
    const char* record;
};

const Sql bare = {
    "DROP TABLE IF EXISTS bench_outbox;"
    "CREATE TABLE bench_outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL,"
    " state text NOT NULL DEFAULT 'queued', sid text, sent_at timestamptz) WITH (fillfactor = 50);"
    "CREATE INDEX bench_outbox_queued ON bench_outbox (id) WHERE state = 'queued'",
    "INSERT INTO bench_outbox (body) SELECT 'Your%%20appointment%%20is%%20tomorrow%%20at%%2010%%3A15.%%20Reply%%20C%%20to%%20confirm%%2C%%20no.%%20'"
    " || g FROM generate_series(1, %ld) g",
    "UPDATE bench_outbox o SET state = 'sending' WHERE id = ANY (ARRAY(SELECT q.id FROM bench_outbox q"
    " WHERE q.state = 'queued' ORDER BY q.id LIMIT $1 FOR UPDATE SKIP LOCKED))"
    " RETURNING o.id, '/2010-04-01/Accounts/ACbe9c4be9c4be9c4be9c4be9c4be9c4be/Messages.json',"
    " 'To=%2B15005550010&From=%2B15005550006&Body=' || o.body",
    "UPDATE bench_outbox o SET state = 'sent', sid = r.body::jsonb ->> 'sid', sent_at = clock_timestamp()"
    " FROM unnest($1::bigint[], $2::text[], $3::text[]) AS r (id, body, request_id) WHERE o.id = r.id",
};

const Sql same = {
    "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;"
    "SET plan_cache_mode = force_generic_plan; SET jit = off",
    "INSERT INTO twilio_messages (to_number, body) SELECT '+1500555' || lpad(g::text, 7, '0'),"
    " 'Your appointment is tomorrow at 10:15. Reply C to confirm, no. ' || g FROM generate_series(1, %ld) g",
    "SELECT order_id, path, content FROM twilio_private.claim_orders("
    "ARRAY['018f4a3e-0000-7000-8000-000000000001']::uuid[], ARRAY[$1]::int[], ARRAY['-infinity']::timestamptz[])",
    "WITH r AS MATERIALIZED (SELECT array_agg(id) AS ids, array_agg(body) AS bodies, array_agg(request_id) AS requests,"
    " array_agg('sent'::text) AS sent, array_agg(201) AS statuses, array_agg(NULL::int) AS no_code, array_agg(NULL::text) AS no_text,"
    " array_agg(body::jsonb ->> 'sid') AS sids, array_agg(NULL::timestamptz) AS no_time, array_agg(clock_timestamp()) AS now,"
    " array_agg('018f4a3e-0000-7000-8000-000000000001'::uuid) AS users, array_agg('ceiling'::text) AS actors,"
    " array_agg('message'::text) AS actions, array_agg('ok'::text) AS ok, array_agg(1) AS ms"
    " FROM unnest($1::bigint[], $2::text[], $3::text[]) AS u (id, body, request_id))"
    "SELECT twilio_private.record_orders(ids, sent, statuses, no_code, no_text, sids, bodies, no_time, now),"
    " twilio_private.record_requests(now, users, actors, actions, sids, ok, statuses, no_code, requests, ms) FROM r",
};

struct Order {
    std::string id;
    std::string path;
    std::string content;
};

// An order on its way, with an easy handle that is kept for the next one.
struct Transfer {
    CURL* easy = nullptr;
    Order order;
    std::string url;
    std::string body;
};

std::size_t keepBody(char* bytes, std::size_t, std::size_t size, void* transfer)
{
    static_cast<Transfer*>(transfer)->body.append(bytes, size);
    return size;
}

// An array's text: {"…","…"}
class Array {
public:
    void add(const std::string& value)
    {
        text_ += text_.size() == 1 ? "\"" : ",\"";
        for (char const c : value) {
            if (c == '"' || c == '\\')
                text_ += '\\';
            text_ += c;
        }
        text_ += '"';
    }
    std::string text() const { return text_ + "}"; }

private:
    std::string text_ = "{";
};

class Ceiling {
public:
    Ceiling(const Sql& sql, std::size_t inFlight, bool http2) : sql_(sql), most_(inFlight), http2_(http2)
    {
        claims_.run(sql_.prepare);
        records_.run(std::strstr(sql_.prepare, "CREATE") == nullptr ? sql_.prepare : "SELECT 1");
        claims_.checked(PQprepare(claims_.get(), "claim", sql_.claim, 0, nullptr));
        records_.checked(PQprepare(records_.get(), "record", sql_.record, 0, nullptr));
        for (Connection* connection : {&claims_, &records_}) {
            PQsetnonblocking(connection->get(), 1);
            watch(PQsocket(connection->get()), EPOLLIN);
        }
        multi_ = curl_multi_init();
        curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, onSocket);
        curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
        curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, onTimer);
        curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
        curl_multi_setopt(multi_, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
        curl_multi_setopt(multi_, CURLMOPT_MAX_CONCURRENT_STREAMS, 100L);
        to_ = curl_slist_append(nullptr, ("::" + environment("CONNECT_TO")).c_str());
        headers_ = curl_slist_append(nullptr, "Accept: application/json");
        headers_ = curl_slist_append(headers_, "Expect:");
        credentials_ = environment("ACCOUNT") + ":" + environment("TOKEN");
        ca_ = environment("CA_FILE");
    }
    // The process ends: what it holds goes with it.
    Ceiling(const Ceiling&) = delete;
    Ceiling& operator=(const Ceiling&) = delete;

    void run(long messages)
    {
        done_ = 0;
        while (done_ < messages) {
            if (!claiming_ && ready_.size() < most_ / 2)
                claim();
            if (!recording_ && !results_.empty() &&
                (results_.size() >= recordAtOnce || seconds() >= recordBy_ || inFlight_ == 0))
                record();
            while (!ready_.empty() && inFlight_ < most_)
                start();
            turn();
        }
    }
    long backends(int which) const { return which == 0 ? claims_.pid() : records_.pid(); }

private:
    void watch(int socket, unsigned events)
    {
        epoll_event event{};
        event.events = events;
        event.data.fd = socket;
        if (epoll_ctl(epoll_, EPOLL_CTL_ADD, socket, &event) != 0)
            epoll_ctl(epoll_, EPOLL_CTL_MOD, socket, &event);
    }
    static int onSocket(CURL*, curl_socket_t socket, int what, void* self, void*)
    {
        auto& ceiling = *static_cast<Ceiling*>(self);
        if (what == CURL_POLL_REMOVE)
            epoll_ctl(ceiling.epoll_, EPOLL_CTL_DEL, socket, nullptr);
        else
            ceiling.watch(socket, (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u));
        return 0;
    }
    static int onTimer(CURLM*, long timeout, void* self)
    {
        static_cast<Ceiling*>(self)->timer_ = timeout < 0 ? -1 : seconds() + static_cast<double>(timeout) * 1e-3;
        return 0;
    }

    void claim()
    {
        std::string const wanted = std::to_string(std::min(claimAtMost, 2 * most_ - ready_.size() - inFlight_));
        const char* values[] = {wanted.c_str()};
        if (seconds() < nextClaim_ || PQsendQueryPrepared(claims_.get(), "claim", 1, values, nullptr, nullptr, 0) != 1)
            return;
        claiming_ = true;
        while (PQflush(claims_.get()) > 0)
            ;
    }
    void record()
    {
        Array ids;
        Array bodies;
        Array requests;
        for (auto& [id, body] : results_) {
            ids.add(id);
            bodies.add(body);
            requests.add("RQ" + id);
        }
        std::string const texts[] = {ids.text(), bodies.text(), requests.text()};
        const char* values[] = {texts[0].c_str(), texts[1].c_str(), texts[2].c_str()};
        if (PQsendQueryPrepared(records_.get(), "record", 3, values, nullptr, nullptr, 0) != 1)
            fail(PQerrorMessage(records_.get()));
        recording_ = static_cast<long>(results_.size());
        results_.clear();
        while (PQflush(records_.get()) > 0)
            ;
    }
    // Takes what the database has answered, if it has.
    bool answered(Connection& connection)
    {
        PQconsumeInput(connection.get());
        return PQisBusy(connection.get()) == 0;
    }
    void takeClaimed()
    {
        Result const rows = claims_.checked(PQgetResult(claims_.get()));
        for (int i = 0; i < PQntuples(rows.get()); i++)
            ready_.push_back({PQgetvalue(rows.get(), i, 0), PQgetvalue(rows.get(), i, 1), PQgetvalue(rows.get(), i, 2)});
        if (PQntuples(rows.get()) == 0)
            nextClaim_ = seconds() + 0.05;
        while (PQgetResult(claims_.get()) != nullptr)
            ;
        claiming_ = false;
    }
    void takeRecorded()
    {
        records_.checked(PQgetResult(records_.get()));
        while (PQgetResult(records_.get()) != nullptr)
            ;
        done_ += std::exchange(recording_, 0);
    }

    Transfer* idleTransfer()
    {
        if (!idle_.empty()) {
            Transfer* transfer = idle_.back();
            idle_.pop_back();
            return transfer;
        }
        auto* transfer = new Transfer;
        transfer->easy = curl_easy_init();
        CURL* const easy = transfer->easy;
        curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
        curl_easy_setopt(easy, CURLOPT_CAINFO, ca_.c_str());
        curl_easy_setopt(easy, CURLOPT_CAPATH, nullptr);
        curl_easy_setopt(easy, CURLOPT_CONNECT_TO, to_);
        curl_easy_setopt(easy, CURLOPT_USERPWD, credentials_.c_str());
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers_);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, keepBody);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_TIMEOUT, 30L);
        curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, http2_ ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(easy, CURLOPT_PIPEWAIT, http2_ ? 1L : 0L);
        return transfer;
    }
    void start()
    {
        Transfer* const transfer = idleTransfer();
        transfer->order = std::move(ready_.front());
        ready_.pop_front();
        transfer->url = "https://api.twilio.com" + transfer->order.path;
        transfer->body.clear();
        curl_easy_setopt(transfer->easy, CURLOPT_URL, transfer->url.c_str());
        curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDSIZE, static_cast<long>(transfer->order.content.size()));
        curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDS, transfer->order.content.c_str());
        curl_multi_add_handle(multi_, transfer->easy);
        inFlight_++;
    }
    void collect()
    {
        int left = 0;
        while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
            char* self = nullptr;
            long status = 0;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &self);
            curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE, &status);
            if (message->data.result != CURLE_OK || status != 201)
                fail(std::string("a POST failed: ") + curl_easy_strerror(message->data.result));
            auto* const transfer = reinterpret_cast<Transfer*>(self);
            curl_multi_remove_handle(multi_, transfer->easy);
            if (results_.empty())
                recordBy_ = seconds() + recordWithin;
            results_.emplace_back(transfer->order.id, transfer->body);
            idle_.push_back(transfer);
            inFlight_--;
        }
    }
    void turn()
    {
        double until = timer_ < 0 ? seconds() + 0.02 : std::min(timer_, seconds() + 0.02);
        if (!results_.empty())
            until = std::min(until, recordBy_);
        int const wait = std::max(0, static_cast<int>((until - seconds()) * 1e3 + 0.999));
        epoll_event events[256];
        int const count = epoll_wait(epoll_, events, 256, wait);
        int running = 0;
        for (int i = 0; i < count; i++) {
            int const socket = events[i].data.fd;
            if (socket == PQsocket(claims_.get()) || socket == PQsocket(records_.get()))
                continue;
            curl_multi_socket_action(multi_, socket,
                                     (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
                                         (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                                         (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0),
                                     &running);
        }
        if (timer_ >= 0 && timer_ <= seconds()) {
            timer_ = -1;
            curl_multi_socket_action(multi_, CURL_SOCKET_TIMEOUT, 0, &running);
        }
        collect();
        if (claiming_ && answered(claims_))
            takeClaimed();
        if (recording_ != 0 && answered(records_))
            takeRecorded();
    }

    const Sql& sql_;
    std::size_t most_;
    bool http2_;
    Connection claims_;
    Connection records_;
    int epoll_ = epoll_create1(EPOLL_CLOEXEC);
    CURLM* multi_ = nullptr;
    curl_slist* to_ = nullptr;
    curl_slist* headers_ = nullptr;
    std::string credentials_;
    std::string ca_;
    double timer_ = -1;
    double recordBy_ = 0;
    double nextClaim_ = 0;
    bool claiming_ = false;
    long recording_ = 0;
    long done_ = 0;
    std::size_t inFlight_ = 0;
    std::deque<Order> ready_;
    std::vector<std::pair<std::string, std::string>> results_;
    std::vector<Transfer*> idle_;
};

} // namespace

int main(int argc, char** argv)
{
    if (argc != 5)
        fail("ceiling same|bare MESSAGES IN_FLIGHT 1|2");
    bool const isBare = std::strcmp(argv[1], "bare") == 0;
    Sql const& sql = isBare ? bare : same;
    long const messages = std::atol(argv[2]);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    auto* const ceiling = new Ceiling(sql, std::strtoul(argv[3], nullptr, 10), argv[4][0] == '2');
    Connection app;
    app.run("SET twilio.user_id = '" + tenantA + "'");
    char fill[500];
    std::snprintf(fill, sizeof(fill), sql.fill, 100L);
    app.run(fill);
    ceiling->run(100);
    std::snprintf(fill, sizeof(fill), sql.fill, messages);
    app.run(fill);
    double const cpu = cpuSeconds(getpid()) + cpuSeconds(ceiling->backends(0)) + cpuSeconds(ceiling->backends(1));
    double const start = seconds();
    ceiling->run(messages);
    double const span = seconds() - start;
    auto const count = static_cast<double>(messages);
    report("ceiling_per_second", count / span);
    report("ceiling_cpu_us",
           (cpuSeconds(getpid()) + cpuSeconds(ceiling->backends(0)) + cpuSeconds(ceiling->backends(1)) - cpu) / count * 1e6);
}

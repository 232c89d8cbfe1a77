// A synchronous question beside the least that it could cost: twilio_verify() in one session, the same GET by plain
// libcurl over a kept connection, and a row of a bare table updated, in turn, so that all see the same machine. Then 32
// sessions at once.
//
//   ask CALLS SESSIONS SECONDS      ACCOUNT, TOKEN, CA_FILE, CONNECT_TO and libpq's variables in the environment
#include "measure.hpp"

#include <atomic>
#include <thread>

#include <curl/curl.h>

namespace {

using namespace bench;

std::size_t swallow(char*, std::size_t, std::size_t size, void*)
{
    return size;
}

class Getter {
public:
    Getter() : easy_(curl_easy_init())
    {
        std::string const account = environment("ACCOUNT");
        to_ = curl_slist_append(nullptr, ("::" + environment("CONNECT_TO")).c_str());
        curl_easy_setopt(easy_, CURLOPT_URL, ("https://api.twilio.com/2010-04-01/Accounts/" + account + ".json").c_str());
        curl_easy_setopt(easy_, CURLOPT_USERPWD, (account + ":" + environment("TOKEN")).c_str());
        curl_easy_setopt(easy_, CURLOPT_CAINFO, environment("CA_FILE").c_str());
        curl_easy_setopt(easy_, CURLOPT_CAPATH, nullptr);
        curl_easy_setopt(easy_, CURLOPT_CONNECT_TO, to_);
        curl_easy_setopt(easy_, CURLOPT_WRITEFUNCTION, swallow);
    }
    ~Getter()
    {
        curl_easy_cleanup(easy_);
        curl_slist_free_all(to_);
    }
    Getter(const Getter&) = delete;
    Getter& operator=(const Getter&) = delete;

    void get()
    {
        long status = 0;
        if (curl_easy_perform(easy_) != CURLE_OK || curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK ||
            status != 200)
            fail("the plain GET failed");
    }

private:
    CURL* easy_;
    curl_slist* to_;
};

class Session {
public:
    Session() { connection_.run("SET twilio.user_id = '" + tenantA + "'"); }
    void verify()
    {
        if (connection_.value("SELECT verified FROM twilio_verify()") != "t")
            fail("the account is not verified");
    }

private:
    Connection connection_;
};

// What verifying leaves in the database: a row changed. It waits for the disk as little as a verification does that
// confirms the one before.
class Writer {
public:
    Writer()
    {
        connection_.run("SET synchronous_commit = off;"
                        " CREATE TABLE IF NOT EXISTS bare (id int PRIMARY KEY, verified_at timestamptz) WITH (fillfactor = 50);"
                        " INSERT INTO bare VALUES (1) ON CONFLICT DO NOTHING");
    }
    void write() { connection_.run("UPDATE bare SET verified_at = clock_timestamp() WHERE id = 1"); }

private:
    Connection connection_;
};

template <typename Work> double timed(Work&& work)
{
    double const start = seconds();
    work();
    return (seconds() - start) * 1e3;
}

void oneSession(int calls)
{
    Getter getter;
    Session session;
    Writer writer;
    std::vector<double> gets;
    std::vector<double> writes;
    std::vector<double> asks;
    for (int i = -20; i < calls; i++) {
        double const ask = timed([&] { session.verify(); });
        double const get = timed([&] { getter.get(); });
        double const write = timed([&] { writer.write(); });
        if (i >= 0) {
            asks.push_back(ask);
            gets.push_back(get);
            writes.push_back(write);
        }
    }
    report("ask_p50_ms", percentile(asks, 0.5));
    report("ask_p95_ms", percentile(asks, 0.95));
    report("get_p50_ms", percentile(gets, 0.5));
    report("write_p50_ms", percentile(writes, 0.5));
    report("ask_ratio", percentile(asks, 0.5) / percentile(gets, 0.5));
    report("least_ratio", percentile(asks, 0.5) / (percentile(gets, 0.5) + percentile(writes, 0.5)));
}

void manySessions(int sessions, double span)
{
    std::atomic<long> answers{0};
    std::atomic<bool> counting{false};
    std::atomic<bool> running{true};
    std::vector<std::thread> threads;
    for (int i = 0; i < sessions; i++)
        threads.emplace_back([&] {
            Session session;
            while (running) {
                session.verify();
                answers += counting ? 1 : 0;
            }
        });
    usleep(500000);
    double const start = seconds();
    counting = true;
    usleep(static_cast<useconds_t>(span * 1e6));
    counting = false;
    report("asks_per_second", static_cast<double>(answers) / (seconds() - start));
    running = false;
    for (std::thread& thread : threads)
        thread.join();
}

} // namespace

int main(int argc, char** argv)
{
    if (argc != 4)
        fail("ask CALLS SESSIONS SECONDS");
    curl_global_init(CURL_GLOBAL_DEFAULT);
    oneSession(std::atoi(argv[1]));
    if (std::atoi(argv[2]) > 0)
        manySessions(std::atoi(argv[2]), std::atof(argv[3]));
    curl_global_cleanup();
}

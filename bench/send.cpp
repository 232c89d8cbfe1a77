// Messages from commit to recorded result, through the worker.
//
//   send MESSAGES        one INSERT … SELECT; rate, CPU per message of worker and backend, cost of a row to insert
//   peer MESSAGES PID    the same of another queue (bench/peers), whose worker is that process
//   calls MESSAGES       twilio_send_sms() in one transaction, rolled back: cost of a call
//   fair MESSAGES        tenant A queues so many, then tenant B one: how long B waits for its result
#include "measure.hpp"

#include <cstring>
#include <functional>

using namespace bench;

namespace {

std::string insertOf(long messages)
{
    return "INSERT INTO twilio_messages (to_number, body) SELECT '+1500555' || lpad(g::text, 7, '0'),"
           " 'Your appointment is tomorrow at 10:15. Reply C to confirm, no. ' || g FROM generate_series(1, " +
           std::to_string(messages) + ") g";
}

void become(Connection& connection, const std::string& tenant)
{
    connection.run("SET twilio.user_id = '" + tenant + "'");
}

double sent(Connection& admin)
{
    return admin.number("SELECT sent + failed FROM twilio_private.worker_stats()");
}

bool isEmpty(Connection& admin)
{
    return admin.value("SELECT NOT EXISTS (SELECT FROM twilio_private.outbox WHERE kind = 'message')") == "t";
}

// A queue: what it costs to fill it, and to empty it.
struct Queue {
    std::function<std::string(long)> enqueue; // the statement for so many messages
    std::function<bool()> isFinished;
    std::function<double()> cpu; // of those who send
};

void measure(Connection& app, long messages, const Queue& queue)
{
    auto const await = [&] {
        while (!queue.isFinished())
            usleep(10000);
    };
    app.run(queue.enqueue(messages / 10)); // connections, plans, compiled code
    await();
    double const workerCpu = queue.cpu();
    double const backendCpu = cpuSeconds(app.pid());

    double const start = seconds();
    app.run(queue.enqueue(messages));
    double const committed = seconds();
    double const enqueueCpu = cpuSeconds(app.pid()) - backendCpu;
    await();
    double const end = seconds();
    auto const count = static_cast<double>(messages);
    report("sends_per_second", count / (end - committed));
    report("worker_cpu_us", (queue.cpu() - workerCpu) / count * 1e6);
    report("enqueue_us", (committed - start) / count * 1e6);
    report("enqueue_cpu_us", enqueueCpu / count * 1e6);
}

void send(long messages)
{
    Connection admin;
    Connection app;
    become(app, tenantA);
    long const worker = workerPid(admin);
    double awaited = sent(admin);
    measure(app, messages,
            {.enqueue =
                 [&](long count) {
                     awaited += static_cast<double>(count);
                     return insertOf(count);
                 },
             .isFinished = [&] { return sent(admin) >= awaited && isEmpty(admin); },
             .cpu = [&] { return cpuSeconds(worker); }});
    if (workerPid(admin) != worker)
        fail("the worker was restarted");
    report("unclear", admin.number("SELECT count(*) FROM twilio_messages WHERE sid IS NULL"));
}

// The worker and its connections.
double cpuOfPeer(Connection& app, long worker)
{
    Result const backends = app.run("SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                                    " AND backend_type = 'client backend' AND pid <> pg_backend_pid()");
    double cpu = cpuSeconds(worker);
    for (int row = 0; row < PQntuples(backends.get()); row++)
        cpu += cpuSeconds(std::atol(PQgetvalue(backends.get(), row, 0)));
    return cpu;
}

void peer(long messages, long worker)
{
    Connection app;
    measure(app, messages,
            {.enqueue = [](long count) { return "SELECT enqueue(" + std::to_string(count) + ")"; },
             .isFinished = [&] { return app.value("SELECT finished()") == "t"; },
             .cpu = [&] { return cpuOfPeer(app, worker); }});
    report("unclear", app.number("SELECT count(*) FROM messages WHERE sid IS NULL"));
}

// The call itself, in the server; and with the way to the server and back, a prepared statement as drivers use it.
void calls(long messages)
{
    Connection app;
    become(app, tenantA);
    app.run("BEGIN");
    double start = seconds();
    app.run(
        "DO $$ BEGIN FOR i IN 1.." + std::to_string(messages) +
        " LOOP PERFORM twilio_send_sms('+15005550010', 'Your appointment is tomorrow at 10:15.'); END LOOP; END $$");
    report("call_us", (seconds() - start) / static_cast<double>(messages) * 1e6);
    app.run("ROLLBACK");

    app.run("PREPARE send AS SELECT id FROM twilio_send_sms($1, $2)");
    app.run("BEGIN");
    start = seconds();
    const char* const values[] = {"+15005550010", "Your appointment is tomorrow at 10:15."};
    for (long i = 0; i < messages; i++)
        app.checked(PQexecPrepared(app.get(), "send", 2, values, nullptr, nullptr, 0));
    report("call_from_client_us", (seconds() - start) / static_cast<double>(messages) * 1e6);
    app.run("ROLLBACK");
}

void fair(long messages)
{
    Connection admin;
    Connection a;
    Connection b;
    become(a, tenantA);
    become(b, tenantB);
    a.run(insertOf(messages));
    double const start = seconds();
    b.run(insertOf(1));
    while (admin.value("SELECT EXISTS (SELECT FROM twilio_messages WHERE user_id = '" + tenantB +
                       "' AND sid IS NULL)") == "t")
        usleep(1000);
    report("fair_wait_ms", (seconds() - start) * 1e3);
    report("fair_ahead_left", admin.number("SELECT count(*) FROM twilio_private.outbox WHERE state = 'queued'"));
}

} // namespace

int main(int argc, char** argv)
{
    if (argc < 3)
        fail("send|calls|fair MESSAGES, or peer MESSAGES PID");
    long const messages = std::atol(argv[2]);
    if (std::strcmp(argv[1], "send") == 0)
        send(messages);
    else if (std::strcmp(argv[1], "peer") == 0 && argc == 4)
        peer(messages, std::atol(argv[3]));
    else if (std::strcmp(argv[1], "calls") == 0)
        calls(messages);
    else
        fair(messages);
}

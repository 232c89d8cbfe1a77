// Messages from commit to recorded result, through the worker.
//
//   send MESSAGES       one INSERT … SELECT; rate, CPU per message of worker and backend, cost of a row to insert
//   calls MESSAGES      twilio_send_sms() in one transaction, rolled back: cost of a call
//   fair MESSAGES       tenant A queues so many, then tenant B one: how long B waits for its result
#include "measure.hpp"

#include <cstring>

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

void send(long messages)
{
    Connection admin;
    Connection app;
    become(app, tenantA);
    app.run(insertOf(100)); // connections and plans
    while (!isEmpty(admin))
        usleep(20000);
    long const worker = workerPid(admin);
    double const before = sent(admin);
    double const workerCpu = cpuSeconds(worker);
    double const backendCpu = cpuSeconds(app.pid());

    double const start = seconds();
    app.run(insertOf(messages));
    double const committed = seconds();
    double const enqueueCpu = cpuSeconds(app.pid()) - backendCpu;
    while (sent(admin) < before + static_cast<double>(messages))
        usleep(10000);
    while (!isEmpty(admin))
        usleep(2000);
    double const end = seconds();
    if (workerPid(admin) != worker)
        fail("the worker was restarted");
    auto const count = static_cast<double>(messages);
    report("sends_per_second", count / (end - committed));
    report("worker_cpu_us", (cpuSeconds(worker) - workerCpu) / count * 1e6);
    report("enqueue_us", (committed - start) / count * 1e6);
    report("enqueue_cpu_us", enqueueCpu / count * 1e6);
    report("unclear", admin.number("SELECT count(*) FROM twilio_messages WHERE sid IS NULL"));
}

void calls(long messages)
{
    Connection app;
    become(app, tenantA);
    app.run("BEGIN");
    double const cpu = cpuSeconds(app.pid());
    double const start = seconds();
    for (long i = 0; i < messages; i++)
        app.run("SELECT id FROM twilio_send_sms('+15005550010', 'Your appointment is tomorrow at 10:15.')");
    report("call_us", (seconds() - start) / static_cast<double>(messages) * 1e6);
    report("call_cpu_us", (cpuSeconds(app.pid()) - cpu) / static_cast<double>(messages) * 1e6);
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
    if (argc != 3)
        fail("send|calls|fair MESSAGES");
    long const messages = std::atol(argv[2]);
    if (std::strcmp(argv[1], "send") == 0)
        send(messages);
    else if (std::strcmp(argv[1], "calls") == 0)
        calls(messages);
    else
        fair(messages);
}

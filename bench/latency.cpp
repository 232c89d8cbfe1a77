// One message at a time: from the return of its COMMIT to the arrival of its POST.
//
//   latency MESSAGES PAUSE_MS NAME       RELAY and UPSTREAM: the port to which the worker sends, and where that leads
//   latency disk FILE                    what a commit waits for at least: 8 kB more written, and on the disk
#include "relay.hpp"

#include <cstring>

#include <fcntl.h>

using namespace bench;

namespace {

void disk(const char* file)
{
    int const fd = open(file, O_CREAT | O_WRONLY, 0600);
    std::vector<char> const page(8192, 'x');
    std::vector<double> delays;
    for (int i = 0; i < 200; i++) {
        double const start = seconds();
        if (pwrite(fd, page.data(), page.size(), 0) != static_cast<ssize_t>(page.size()) || fdatasync(fd) != 0)
            fail(std::string(file) + " cannot be written");
        delays.push_back((seconds() - start) * 1e3);
        usleep(5000);
    }
    close(fd);
    report("disk_p50_ms", percentile(delays, 0.5));
    report("disk_p95_ms", percentile(delays, 0.95));
}

void messages(int messages, useconds_t pause, const std::string& name)
{
    Relay relay(std::stoi(environment("RELAY")), std::stoi(environment("UPSTREAM")));
    Connection app;
    app.run("SET twilio.user_id = '" + tenantA + "'");
    std::vector<double> delays;
    for (int i = -3; i < messages; i++) {
        relay.forget();
        app.run("INSERT INTO twilio_messages (to_number, body) VALUES ('+15005550010', 'Your taxi is here.')");
        double const committed = seconds();
        useconds_t const soon = std::clamp<useconds_t>(pause, 50000, 1000000); // before the idle worker closes its connection
        usleep(soon);
        for (int tries = 0; relay.arrival() == 0; tries++) {
            if (tries == 500)
                fail("a message did not arrive");
            usleep(10000);
        }
        if (i >= 0)
            delays.push_back((relay.arrival() - committed) * 1e3);
        usleep(pause - std::min(pause, soon));
    }
    report(name + "_p50_ms", percentile(delays, 0.5));
    report(name + "_p95_ms", percentile(delays, 0.95));
}

} // namespace

int main(int argc, char** argv)
{
    if (argc == 3 && std::strcmp(argv[1], "disk") == 0)
        disk(argv[2]);
    else if (argc == 4)
        messages(std::atoi(argv[1]), static_cast<useconds_t>(std::atoi(argv[2]) * 1000), argv[3]);
    else
        fail("latency MESSAGES PAUSE_MS NAME, or disk FILE");
}

// One message at a time: from the return of its COMMIT to the arrival of its POST at the upstream (arrivals.mjs).
//
//   latency MESSAGES PAUSE_MS NAME       ARRIVALS names the file that the upstream writes
//   latency disk FILE                    what a commit waits for at least: 8 kB more written, and on the disk
#include "measure.hpp"

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
    std::ifstream arrivals(environment("ARRIVALS"));
    for (std::string line; std::getline(arrivals, line);) // of earlier runs
        ;
    Connection app;
    app.run("SET twilio.user_id = '" + tenantA + "'");
    std::vector<double> delays;
    for (int i = -3; i < messages; i++) {
        app.run("INSERT INTO twilio_messages (to_number, body) VALUES ('+15005550010', 'Your taxi is here.')");
        double const committed = seconds();
        usleep(std::max<useconds_t>(pause, 50000));
        arrivals.clear();
        double nanoseconds = 0;
        for (int tries = 0; !(arrivals >> nanoseconds); tries++) {
            if (tries == 500)
                fail("a message did not arrive");
            arrivals.clear();
            usleep(10000);
        }
        if (i >= 0)
            delays.push_back((nanoseconds * 1e-9 - committed) * 1e3);
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

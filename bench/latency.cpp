// One message at a time: from the return of its COMMIT to the arrival of its POST at the upstream (arrivals.mjs).
//
//   latency MESSAGES PAUSE_MS NAME       ARRIVALS names the file that the upstream writes
#include "measure.hpp"

using namespace bench;

int main(int argc, char** argv)
{
    if (argc != 4)
        fail("latency MESSAGES PAUSE_MS NAME");
    int const messages = std::atoi(argv[1]);
    auto const pause = static_cast<useconds_t>(std::atoi(argv[2]) * 1000);
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
    report(std::string(argv[3]) + "_p50_ms", percentile(delays, 0.5));
    report(std::string(argv[3]) + "_p95_ms", percentile(delays, 0.95));
}

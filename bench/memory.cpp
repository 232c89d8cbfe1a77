// The worker's memory and descriptors over many questions: after a tenth of them, and at the end.
//
//   memory ASKS SESSIONS
#include "measure.hpp"

#include <atomic>
#include <thread>

using namespace bench;

namespace {

void ask(long asks, int sessions)
{
    std::atomic<long> left{asks};
    std::vector<std::thread> threads;
    for (int i = 0; i < sessions; i++)
        threads.emplace_back([&] {
            Connection connection;
            connection.run("SET twilio.user_id = '" + tenantA + "'");
            while (left-- > 0)
                connection.run("SELECT verified FROM twilio_verify()");
        });
    for (std::thread& thread : threads)
        thread.join();
}

} // namespace

int main(int argc, char** argv)
{
    if (argc != 3)
        fail("memory ASKS SESSIONS");
    long const asks = std::atol(argv[1]);
    int const sessions = std::atoi(argv[2]);
    Connection admin;
    long const worker = workerPid(admin);
    ask(asks / 10, sessions);
    double const warm = privateKilobytes(worker);
    long const open = descriptors(worker);
    ask(asks - asks / 10, sessions);
    if (workerPid(admin) != worker)
        fail("the worker was restarted");
    report("worker_warm_kb", warm);
    report("worker_growth_kb", privateKilobytes(worker) - warm);
    report("worker_descriptors", static_cast<double>(descriptors(worker)));
    report("worker_descriptors_growth", static_cast<double>(descriptors(worker) - open));
}

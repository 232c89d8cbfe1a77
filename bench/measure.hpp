// What every benchmark needs: a clock, the CPU time and memory of a process as the kernel counts them, percentiles, and
// a connection, to where libpq's environment says, that ends the program when a statement fails. Results go to standard
// output, one `name value` a line.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <libpq-fe.h>
#include <time.h>
#include <unistd.h>

namespace bench {

// CLOCK_MONOTONIC, which node's process.hrtime() reads too.
inline double seconds()
{
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

inline void report(const std::string& name, double value)
{
    std::printf("%s %.6g\n", name.c_str(), value);
    std::fflush(stdout);
}

[[noreturn]] inline void fail(const std::string& why)
{
    std::fprintf(stderr, "bench: %s\n", why.c_str());
    std::exit(1);
}

inline double percentile(std::vector<double> values, double part)
{
    if (values.empty())
        fail("nothing was measured");
    std::sort(values.begin(), values.end());
    return values[std::min(values.size() - 1, static_cast<std::size_t>(part * static_cast<double>(values.size())))];
}

// User and system time of a process, in seconds; the kernel counts in hundredths.
inline double cpuSeconds(long pid)
{
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string text((std::istreambuf_iterator<char>(stat)), {});
    auto const end = text.rfind(')');
    if (end == std::string::npos)
        return 0;
    long user = 0;
    long system = 0;
    std::sscanf(text.c_str() + end + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld", &user, &system);
    return static_cast<double>(user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

// Resident memory that is the process's own: a worker's share of the server's buffers is not its growth.
inline double privateKilobytes(long pid)
{
    std::ifstream status("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("RssAnon:"))
            return std::strtod(line.c_str() + 8, nullptr);
    return 0;
}

inline long descriptors(long pid)
{
    auto const files = std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd");
    return std::distance(begin(files), end(files));
}

using Result = std::unique_ptr<PGresult, decltype([](PGresult* result) { PQclear(result); })>;

class Connection {
public:
    Connection() : connection_(PQconnectdb(""))
    {
        if (PQstatus(connection_) != CONNECTION_OK)
            fail(PQerrorMessage(connection_));
        run("SET client_min_messages = warning");
    }
    ~Connection() { PQfinish(connection_); }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    Result run(const std::string& sql) { return checked(PQexec(connection_, sql.c_str())); }
    std::string value(const std::string& sql) { return PQgetvalue(run(sql).get(), 0, 0); }
    double number(const std::string& sql) { return std::strtod(value(sql).c_str(), nullptr); }
    long pid() const { return PQbackendPID(connection_); }
    PGconn* get() { return connection_; }

    Result checked(PGresult* result)
    {
        auto const status = PQresultStatus(result);
        if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
            fail(PQerrorMessage(connection_));
        return Result(result);
    }

private:
    PGconn* connection_;
};

inline long workerPid(Connection& admin)
{
    return static_cast<long>(admin.number("SELECT pid FROM twilio_private.worker_stats()"));
}

inline std::string environment(const char* name)
{
    const char* value = std::getenv(name);
    if (value == nullptr)
        fail(std::string(name) + " is not set");
    return value;
}

// The tenants that prepare.sql makes.
inline const std::string tenantA = "018f4a3e-0000-7000-8000-000000000001";
inline const std::string tenantB = "018f4a3e-0000-7000-8000-000000000002";

} // namespace bench

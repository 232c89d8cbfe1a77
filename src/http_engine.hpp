// HTTPS requests, many at once, without ever blocking: libcurl's multi interface
// driven by one epoll descriptor, which the owner nests in its own event loop.
//
// What it promises: a request leaves at most once (a GET excepted). libcurl itself
// repeats a request when a kept connection turns out to be dead; here that ends as
// `lost`, and only what provably never left is `unreachable` (http_transfer.cpp).
// Https only, TLS 1.2 or better, always verified; no redirects; the body capped.
//
// The Authorization header is given per request and belongs to no connection, so
// connections are shared between tenants. Nothing secret outlives its request
// but in curl's own buffers, which forget() throws away.
//
// For one thread at a time.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "recall.hpp"
#include "reply.hpp"
#include "secret.hpp"

namespace twilio {

struct Options {
    std::chrono::milliseconds connectTimeout{5000};
    std::chrono::milliseconds requestTimeout{30000};
    std::size_t maxResponseSize = 1 << 20;
    std::string caFile;    // empty: the bundle that libcurl was built with
    std::string proxy;     // empty: none, whatever the environment says
    std::string connectTo; // "host:port": where every connection really goes; TLS still checks the URL's host
    std::string userAgent;

    bool operator==(const Options&) const = default;
};

struct Request {
    std::uint64_t id = 0; // the owner's, unique among those in flight
    std::string method = "GET";
    std::string url;
    std::string body;
    std::string contentType = "application/x-www-form-urlencoded"; // of the body
    std::string username;                                          // empty: no Authorization
    Secret password;
    std::chrono::milliseconds timeout{0}; // 0: Options::requestTimeout
};

class HttpEngine {
public:
    // Once per process, before the first engine and any thread: curl, and memory that can be wiped.
    static void prepareProcess();

    explicit HttpEngine(Options options);
    ~HttpEngine();
    HttpEngine(const HttpEngine&) = delete;
    HttpEngine& operator=(const HttpEngine&) = delete;

    // Holds for requests started from now on, over new connections. Those in flight end as they began. A caFile that
    // was replaced is read anew, also where nothing else is new.
    void configure(Options options);

    // Never fails by itself: what cannot even start comes back as a reply (unreachable).
    void start(Request&& request);

    // The request, if still in flight, comes back as canceled.
    void cancel(std::uint64_t id);

    // Moves everything on that can move, without waiting; when recalled, the rest is left to the next call.
    void pump(const Recall& recall = notRecalled);

    // The next finished request, in the order in which they finished.
    std::optional<Reply> next();

    // How long the owner may sleep at most before the next pump() if the descriptor stays silent: -1 for ever.
    std::chrono::milliseconds waitMillis() const;

    // Readable when pump() has something to do. The same for the whole life of the engine.
    int descriptor() const;

    std::size_t inFlight() const;

    // Drops pooled handles and idle connections, and wipes freed memory and the unused stack, so that no secret stays
    // behind. To be called when idle; with requests in flight, their connections and handles stay.
    void forget();

private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace twilio

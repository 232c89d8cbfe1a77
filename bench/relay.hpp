// Stands between the worker and the upstream and knows when a request came: bytes go through as they are, so that
// nothing but its own wake-up is added to what is measured.
#pragma once

#include <atomic>
#include <list>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include "measure.hpp"

namespace bench {

class Relay {
public:
    // Listens on a port of 127.0.0.1 and hands on to another, for the life of the program.
    Relay(int port, int upstream) : listener_(open(port)), upstream_(upstream)
    {
        if (listen(listener_, SOMAXCONN) != 0)
            fail("the relay cannot listen");
        std::thread([this] { run(); }).detach();
    }
    Relay(const Relay&) = delete;
    Relay& operator=(const Relay&) = delete;

    // When the last bytes came that were answered (CLOCK_MONOTONIC, seconds); 0 if none were since forget().
    double arrival() const { return arrival_; }
    void forget() { arrival_ = 0; }

private:
    struct Pair {
        int client;
        int upstream;
        double asked; // when its last bytes came
    };

    static int open(int port, bool connects = false)
    {
        int const socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int const on = 1;
        setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<std::uint16_t>(port));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        auto* where = reinterpret_cast<sockaddr*>(&address);
        if ((connects ? connect(socket, where, sizeof(address)) : bind(socket, where, sizeof(address))) != 0)
            fail("the relay cannot use port " + std::to_string(port));
        return socket;
    }

    void run()
    {
        for (;;) {
            std::vector<pollfd> watched{{listener_, POLLIN, 0}};
            for (const Pair& pair : pairs_) {
                watched.push_back({pair.client, POLLIN, 0});
                watched.push_back({pair.upstream, POLLIN, 0});
            }
            poll(watched.data(), watched.size(), -1);
            double const now = seconds();
            auto ready = watched.begin() + 1;
            for (auto pair = pairs_.begin(); pair != pairs_.end(); ready += 2)
                pair = hand(*pair, ready[0].revents != 0, ready[1].revents != 0, now) ? std::next(pair) : close(pair);
            if (watched.front().revents != 0)
                pairs_.push_back({accept(listener_, nullptr, nullptr), open(upstream_, true), 0});
        }
    }

    // False at the end of a connection.
    bool hand(Pair& pair, bool asks, bool answers, double now)
    {
        if (answers && pair.asked != 0)
            arrival_ = pair.asked;
        if (asks)
            pair.asked = now;
        return (!asks || pass(pair.client, pair.upstream)) && (!answers || pass(pair.upstream, pair.client));
    }

    static bool pass(int from, int to)
    {
        char bytes[65536];
        auto const length = recv(from, bytes, sizeof(bytes), 0);
        return length > 0 && send(to, bytes, static_cast<std::size_t>(length), MSG_NOSIGNAL) == length;
    }

    std::list<Pair>::iterator close(std::list<Pair>::iterator pair)
    {
        ::close(pair->client);
        ::close(pair->upstream);
        return pairs_.erase(pair);
    }

    int listener_;
    int upstream_;
    std::list<Pair> pairs_;
    std::atomic<double> arrival_ = 0;
};

} // namespace bench

// A small HTTPS server for tests, HTTP/1.1 or HTTP/2, that does as it is told,
// misbehaviour above all. One thread per connection; what it received is kept.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <openssl/ssl.h>

#include "certificates.hpp"

namespace twilio::test {

struct Received {
    int connection = 0;       // from 1, in the order of acceptance
    int number = 0;           // of the request, from 1
    std::uint32_t stream = 0; // HTTP/2
    std::string head;         // HTTP/1.1: request line and headers; HTTP/2: the compressed header block
    std::string body;
};

struct Answer {
    enum class Kind {
        respond,
        drop,         // close the connection without a word, after the whole request was read
        hang,         // keep it open and say nothing
        cut_short,    // promise more body than is sent, then close
        refuse,       // HTTP/2: REFUSED_STREAM
        go_away,      // HTTP/2: GOAWAY that excludes this stream, then close
        reset_stream, // HTTP/2: INTERNAL_ERROR on this stream
        raw           // `pieces`, as they are
    };
    Kind kind = Kind::respond;
    int status = 201;
    std::string body = "{}";
    std::string headers; // whole lines, HTTP/1.1 only
    std::chrono::milliseconds delay{0};
    bool closeAfter = false;
    bool resetAfter = false;            // with an RST
    std::vector<std::string> pieces;    // of kind raw
    std::chrono::milliseconds pause{0}; // before each of them
};

std::string bigEndian(std::uint32_t value);
std::string http2Frame(int type, int flags, std::uint32_t stream, const std::string& payload);

class TlsServer {
public:
    using Handler = std::function<Answer(const Received&)>;

    TlsServer(const Identity& identity, bool http2, Handler handler);
    ~TlsServer();
    TlsServer(const TlsServer&) = delete;
    TlsServer& operator=(const TlsServer&) = delete;

    int port() const { return port_; }
    std::string place() const { return "127.0.0.1:" + std::to_string(port_); }
    std::vector<Received> received() const;
    int connections() const { return connections_; }

    // Of connections that are made from now on.
    void speakHttp2(bool http2) { http2_ = http2; }
    enum class Phase { none, tcp, tls };
    void resetIn(Phase phase) { resetIn_ = phase; }

    // The TLS handshake takes so much longer from now on.
    void delayHandshakes(std::chrono::milliseconds delay) { handshakeDelay_ = delay.count(); }

private:
    class Connection;

    void accept();
    Answer answer(Received& request);
    bool waitFor(std::chrono::milliseconds delay); // false: the server stops

    SSL_CTX* context_;
    Handler handler_;
    std::atomic<bool> http2_;
    std::atomic<Phase> resetIn_ = Phase::none;
    int listener_ = -1;
    int port_ = 0;
    std::atomic<int> connections_ = 0;
    std::atomic<long> handshakeDelay_ = 0;
    mutable std::mutex mutex_;
    std::condition_variable stopping_;
    bool isStopping_ = false;
    std::vector<Received> received_;
    std::vector<int> sockets_;
    std::vector<std::thread> threads_;
};

} // namespace twilio::test

#include "tls_server.hpp"

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <stdexcept>

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

namespace twilio::test {

namespace {

constexpr int backlog = 1024;

int selectProtocol(SSL*, const unsigned char** chosen, unsigned char* length, const unsigned char* offered,
                   unsigned int size, void* http2)
{
    static const unsigned char h2[] = "\x02h2";
    static const unsigned char h1[] = "\x08http/1.1";
    const bool wantsH2 = *static_cast<std::atomic<bool>*>(http2);
    unsigned char* out = nullptr;
    if (SSL_select_next_proto(&out, length, wantsH2 ? h2 : h1, wantsH2 ? 3 : 9, offered, size) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *chosen = out;
    return SSL_TLSEXT_ERR_OK;
}

enum FrameType : std::uint8_t {
    frame_data = 0,
    frame_headers = 1,
    frame_reset = 3,
    frame_settings = 4,
    frame_ping = 6,
    frame_go_away = 7,
    frame_window_update = 8
};
constexpr std::size_t largestFrame = 16384;
constexpr std::uint8_t flagEndStream = 1;
constexpr std::uint8_t flagAck = 1;
constexpr std::uint8_t flagEndHeaders = 4;
constexpr std::uint32_t refusedStream = 7;
constexpr std::uint32_t internalError = 2;

void resetOnClose(int socket)
{
    const linger now{1, 0};
    ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

} // namespace

std::string bigEndian(std::uint32_t value)
{
    value = htonl(value);
    return {reinterpret_cast<const char*>(&value), sizeof value};
}

std::string http2Frame(int type, int flags, std::uint32_t stream, const std::string& payload)
{
    const std::string size = bigEndian(static_cast<std::uint32_t>(payload.size()));
    return size.substr(1) + static_cast<char>(type) + static_cast<char>(flags) + bigEndian(stream) + payload;
}

class TlsServer::Connection {
public:
    Connection(TlsServer& server, int socket, int number) : server_(server), number_(number)
    {
        ssl_ = SSL_new(server.context_);
        SSL_set_fd(ssl_, socket);
    }
    ~Connection() { SSL_free(ssl_); }

    void serve()
    {
        if (server_.handshakeDelay_ > 0 && !server_.waitFor(std::chrono::milliseconds(server_.handshakeDelay_)))
            return;
        char hello = 0;
        if (const Phase phase = server_.resetIn_; phase != Phase::none) {
            if (phase == Phase::tls)
                ::recv(SSL_get_fd(ssl_), &hello, 1, MSG_PEEK);
            return resetOnClose(SSL_get_fd(ssl_));
        }
        if (SSL_accept(ssl_) != 1)
            return;
        const unsigned char* protocol = nullptr;
        unsigned int length = 0;
        SSL_get0_alpn_selected(ssl_, &protocol, &length);
        if (length == 2)
            serveHttp2();
        else
            while (serveHttp1()) {
            }
        if (sayGoodbye_)
            SSL_shutdown(ssl_);
    }

private:
    bool readMore()
    {
        char bytes[16384];
        const int got = SSL_read(ssl_, bytes, sizeof bytes);
        if (got <= 0)
            return false;
        buffer_.append(bytes, static_cast<std::size_t>(got));
        return true;
    }

    bool fill(std::size_t size)
    {
        while (buffer_.size() < size)
            if (!readMore())
                return false;
        return true;
    }

    std::string take(std::size_t size)
    {
        std::string bytes = buffer_.substr(0, size);
        buffer_.erase(0, size);
        return bytes;
    }

    bool write(const std::string& bytes)
    {
        return bytes.empty() || SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size())) > 0;
    }

    bool writeRaw(const Answer& answer)
    {
        for (const std::string& piece : answer.pieces)
            if (!server_.waitFor(answer.pause) || !write(piece))
                return false;
        if (answer.resetAfter)
            resetOnClose(SSL_get_fd(ssl_));
        sayGoodbye_ = answer.closeAfter;
        return !answer.closeAfter && !answer.resetAfter;
    }

    // ---- HTTP/1.1

    std::optional<Received> readHttp1()
    {
        std::size_t end = 0;
        while ((end = buffer_.find("\r\n\r\n")) == std::string::npos)
            if (!readMore())
                return std::nullopt;
        Received request;
        request.connection = number_;
        request.head = take(end + 4);
        std::size_t length = 0;
        if (const std::size_t at = request.head.find("Content-Length: "); at != std::string::npos)
            length = std::stoul(request.head.substr(at + 16));
        if (!fill(length))
            return std::nullopt;
        request.body = take(length);
        return request;
    }

    bool serveHttp1()
    {
        auto request = readHttp1();
        if (!request)
            return false;
        const Answer answer = server_.answer(*request);
        if (!server_.waitFor(answer.delay))
            return false;
        sayGoodbye_ = false;
        if (answer.kind == Answer::Kind::drop)
            return false;
        if (answer.kind == Answer::Kind::hang) {
            readMore(); // until the client gives up
            return false;
        }
        if (answer.kind == Answer::Kind::raw)
            return writeRaw(answer);
        const bool isCut = answer.kind == Answer::Kind::cut_short;
        write("HTTP/1.1 " + std::to_string(answer.status) + " Because\r\nContent-Type: application/json\r\n" +
              "Content-Length: " + std::to_string(answer.body.size() + (isCut ? 10 : 0)) + "\r\n" + answer.headers +
              "\r\n" + answer.body);
        sayGoodbye_ = answer.closeAfter;
        return !isCut && !answer.closeAfter;
    }

    // ---- HTTP/2, as much as a well-behaved client needs

    void frame(FrameType type, std::uint8_t flags, std::uint32_t stream, const std::string& payload)
    {
        write(http2Frame(type, flags, stream, payload));
    }

    // As much as fits into each frame, all in one piece.
    void lastData(std::uint32_t stream, const std::string& body)
    {
        std::string frames;
        std::size_t at = 0;
        do {
            const bool isLast = body.size() - at <= largestFrame;
            frames += http2Frame(frame_data, isLast ? flagEndStream : 0, stream, body.substr(at, largestFrame));
            at += largestFrame;
        } while (at < body.size());
        write(frames);
    }

    void serveHttp2()
    {
        if (!fill(24))
            return;
        take(24); // the preface
        frame(frame_settings, 0, 0, "");
        while (fill(9)) {
            const std::string head = take(9);
            const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(head[i]); };
            const std::size_t size = static_cast<std::size_t>(byte(0) << 16 | byte(1) << 8 | byte(2));
            std::uint32_t stream = 0;
            std::memcpy(&stream, head.data() + 5, sizeof stream);
            if (!fill(size) || !onFrame(byte(3), byte(4), ntohl(stream), take(size)))
                return;
        }
    }

    bool onFrame(std::uint8_t type, std::uint8_t flags, std::uint32_t stream, const std::string& payload)
    {
        if (type == frame_settings && (flags & flagAck) == 0)
            frame(frame_settings, flagAck, 0, "");
        if (type == frame_ping && (flags & flagAck) == 0)
            frame(frame_ping, flagAck, 0, payload);
        if (type == frame_headers)
            streams_[stream].head = payload;
        if (type == frame_data && !payload.empty()) {
            streams_[stream].body += payload;
            frame(frame_window_update, 0, 0, bigEndian(static_cast<std::uint32_t>(payload.size())));
            if ((flags & flagEndStream) == 0)
                frame(frame_window_update, 0, stream, bigEndian(static_cast<std::uint32_t>(payload.size())));
        }
        const bool isWhole = (type == frame_headers || type == frame_data) && (flags & flagEndStream) != 0;
        return !isWhole || onRequest(stream);
    }

    bool onRequest(std::uint32_t stream)
    {
        Received request = streams_[stream];
        request.stream = stream;
        streams_.erase(stream);
        request.connection = number_;
        const Answer answer = server_.answer(request);
        if (!server_.waitFor(answer.delay))
            return false;
        switch (answer.kind) {
        case Answer::Kind::drop:
        case Answer::Kind::cut_short:
            return false;
        case Answer::Kind::hang:
            return true;
        case Answer::Kind::refuse:
            frame(frame_reset, 0, stream, bigEndian(refusedStream));
            return true;
        case Answer::Kind::reset_stream:
            frame(frame_reset, 0, stream, bigEndian(internalError));
            return true;
        case Answer::Kind::go_away:
            frame(frame_go_away, 0, 0, bigEndian(stream >= 2 ? stream - 2 : 0) + bigEndian(0));
            return false;
        case Answer::Kind::raw:
            return writeRaw(answer);
        case Answer::Kind::respond:
            break;
        }
        // ":status", literal without indexing, name 8 of the static table
        frame(frame_headers, flagEndHeaders, stream, std::string("\x08\x03") + std::to_string(answer.status));
        lastData(stream, answer.body);
        return !answer.closeAfter;
    }

    TlsServer& server_;
    int number_;
    SSL* ssl_ = nullptr;
    std::string buffer_;
    bool sayGoodbye_ = false;
    std::map<std::uint32_t, Received> streams_;
};

TlsServer::TlsServer(const Identity& identity, bool http2, Handler handler)
    : context_(SSL_CTX_new(TLS_server_method())), handler_(std::move(handler)), http2_(http2)
{
    std::signal(SIGPIPE, SIG_IGN);
    SSL_CTX_use_certificate(context_, identity.certificate.get());
    SSL_CTX_use_PrivateKey(context_, identity.key.get());
    SSL_CTX_set_alpn_select_cb(context_, selectProtocol, &http2_);

    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(listener_, backlog) != 0 ||
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
        throw std::runtime_error("the test server cannot listen");
    port_ = ntohs(address.sin_port);
    threads_.emplace_back([this] { accept(); });
}

TlsServer::~TlsServer()
{
    {
        const std::lock_guard lock(mutex_);
        isStopping_ = true;
        for (const int socket : sockets_)
            ::shutdown(socket, SHUT_RDWR);
    }
    stopping_.notify_all();
    ::shutdown(listener_, SHUT_RDWR);
    threads_.front().join();
    for (std::size_t i = 1; i < threads_.size(); i++)
        threads_[i].join();
    ::close(listener_);
    SSL_CTX_free(context_);
}

void TlsServer::accept()
{
    for (;;) {
        const int socket = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
        const std::lock_guard lock(mutex_);
        if (socket < 0 || isStopping_) {
            if (socket >= 0)
                ::close(socket);
            return;
        }
        const int on = 1;
        ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        sockets_.push_back(socket);
        threads_.emplace_back([this, socket, number = ++connections_] {
            Connection(*this, socket, number).serve();
            const std::lock_guard ending(mutex_);
            std::erase(sockets_, socket);
            ::close(socket);
        });
    }
}

Answer TlsServer::answer(Received& request)
{
    {
        const std::lock_guard lock(mutex_);
        request.number = static_cast<int>(received_.size()) + 1;
        received_.push_back(request);
    }
    return handler_(request);
}

bool TlsServer::waitFor(std::chrono::milliseconds delay)
{
    std::unique_lock lock(mutex_);
    return !stopping_.wait_for(lock, delay, [this] { return isStopping_; });
}

std::vector<Received> TlsServer::received() const
{
    const std::lock_guard lock(mutex_);
    return received_;
}

} // namespace twilio::test

// One request on its way: a curl easy handle, what it sends and what comes back.
//
// A transfer is used again and again. Between two uses it holds the handle with
// the settings that all requests share, and nothing of the last request.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <curl/curl.h>

#include "connections.hpp"
#include "http_engine.hpp"
#include "response_body.hpp"
#include "socket_watch.hpp"

namespace twilio {

struct EasyCleanup {
    void operator()(CURL* easy) const noexcept { curl_easy_cleanup(easy); }
};
struct ListCleanup {
    void operator()(curl_slist* list) const noexcept { curl_slist_free_all(list); }
};

class Transfer {
public:
    // With what all requests share. For other options there is another transfer: libcurl 7.88 refuses some options to a
    // handle that was canceled. Throws std::bad_alloc.
    Transfer(const Options& options, std::uint64_t generation, SocketWatch& sockets);
    Transfer(const Transfer&) = delete;
    Transfer& operator=(const Transfer&) = delete;
    ~Transfer() { clear(); }

    std::uint64_t generation() const { return generation_; } // of the options

    // What this request is. False: curl does not take it.
    bool prepare(Request&& request, const Options& options, const Connections& connections, bool waitForConnection);

    // The reply, after curl is done with the handle or has let go of it. Leaves the transfer ready for clear().
    Reply finish(CURLcode result);
    Reply cancel();

    // Whether it ended before a byte was sent, because the connection that curl had chosen for it was none to use. Then
    // it may start again on others.
    bool mayStartAgain(CURLcode result) const;

    bool isOn(const Connections& connections) const { return connections_ == connections; }
    void join(const Connections& connections);
    void leaveConnections() noexcept;

    // Wipes what the request left.
    void clear() noexcept;

    CURL* easy() const { return easy_.get(); }
    std::uint64_t id() const { return id_; }
    bool wasHttp2() const;
    curl_socket_t socket() const;

    static Transfer* of(CURL* easy);

private:
    // A header line whose text belongs to the transfer.
    struct Line {
        Secret text;
        curl_slist node{};
    };

    static int onIssue(void* self, char*, char*, int, int) noexcept;
    static std::size_t onBody(char* bytes, std::size_t, std::size_t size, void* self) noexcept;
    static curl_socket_t onOpenSocket(void* sockets, curlsocktype, curl_sockaddr* address) noexcept;
    static int onCloseSocket(void* sockets, curl_socket_t socket) noexcept;

    bool takeConnection() noexcept;
    void letConnectionGo() noexcept;
    void setMethod();
    void setHeaders(const Request& request);
    void addLine(Line& line, std::string_view text);
    Transport transportOf(CURLcode result) const;
    Reply makeReply(Transport transport, std::string error);

    Connections connections_; // outlives the handle
    std::unique_ptr<CURL, EasyCleanup> easy_;
    std::unique_ptr<curl_slist, ListCleanup> connectTo_;
    std::uint64_t generation_;
    std::uint64_t id_ = 0;

    std::string method_;
    std::string body_;
    Line authorization_;
    Line contentType_;
    Line accept_;
    Line expect_;
    curl_slist* lastLine_ = nullptr;
    curl_slist* firstLine_ = nullptr;

    int timesIssued_ = 0;
    int timesTurnedBack_ = 0;
    const void* held_ = nullptr; // the connection that it has to itself
    ResponseBody response_;
    char error_[CURL_ERROR_SIZE] = {};
};

} // namespace twilio

// How a request is put to curl, and how its end is understood.
//
// The one property that matters most: a request that may have reached Twilio is
// never sent again. curl repeats a request by itself when a kept connection
// breaks before an answer, a POST too, because it takes the connection for one
// that had died before. It asks the pre-request callback before every attempt,
// so that is where a second attempt is refused (onIssue). That the callback was
// never called is also the proof that nothing of the request has left.
#include "http_transfer.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "base64.hpp"
#include "tls.hpp"

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

using std::chrono::milliseconds;

// libcurl 7.88 takes HTTP/2 from the network in pieces of 32 kB, and misses the end of an answer when it cannot pass on
// a piece at once.
constexpr long readAtOnce = 33'000; // more than freeWiped() wipes
// The least that curl takes: it keeps 64 kB for each HTTP/2 request in flight, and ours are a few hundred bytes.
constexpr long sentAtOnce = 16 * 1024;
constexpr long longestIdleSeconds = 20; // a connection idle for longer is about to be closed by the other side
constexpr long caCacheSeconds = 3600;
constexpr std::size_t longestHeader = 200;
constexpr int mostTurnedBack = 3;
constexpr std::int64_t endOfTime = 253'402'300'800; // for HTTP, whose years have four digits; seconds since 1970

// Failure to set an option means that memory is short; an option that this libcurl does not know would be a
// defect of the build. Either way the request must not go out without it.
template<typename Value>
void set(CURL* easy, CURLoption option, Value value)
{
    if (curl_easy_setopt(easy, option, value) != CURLE_OK)
        throw std::bad_alloc();
}

const char* orNull(const std::string& text)
{
    return text.empty() ? nullptr : text.c_str();
}

// Printable ASCII, and not too much of it: it goes to logs and tables.
std::string printable(const char* text)
{
    std::string clean;
    for (; text != nullptr && *text != '\0' && clean.size() < longestHeader; text++)
        if (*text >= ' ' && *text <= '~')
            clean += *text;
    return clean;
}

std::string headerOf(CURL* easy, const char* name)
{
    curl_header* header = nullptr;
    if (curl_easy_header(easy, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
        return {};
    return printable(header->value);
}

curl_off_t numberOf(CURL* easy, CURLINFO info)
{
    curl_off_t number = 0;
    return curl_easy_getinfo(easy, info, &number) == CURLE_OK ? number : 0;
}

bool isToken(std::string_view text)
{
    return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
}

bool isOneLine(std::string_view text)
{
    return std::none_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < ' '; });
}

} // namespace

Transfer* Transfer::of(CURL* easy)
{
    char* self = nullptr;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &self);
    return reinterpret_cast<Transfer*>(self);
}

Transfer::Transfer(const Options& options, std::uint64_t generation, SocketWatch& sockets)
    : easy_(curl_easy_init()), generation_(generation), response_(options.maxResponseSize)
{
    CURL* const easy = easy_.get();
    if (easy == nullptr)
        throw std::bad_alloc();

    set(easy, CURLOPT_PRIVATE, this);
    set(easy, CURLOPT_ERRORBUFFER, error_);
    set(easy, CURLOPT_NOSIGNAL, 1L);
    set(easy, CURLOPT_BUFFERSIZE, readAtOnce);
    set(easy, CURLOPT_UPLOAD_BUFFERSIZE, sentAtOnce);
    set(easy, CURLOPT_QUICK_EXIT, 1L); // never wait for a resolver thread
    set(easy, CURLOPT_PREREQFUNCTION, onIssue);
    set(easy, CURLOPT_PREREQDATA, this);
    set(easy, CURLOPT_WRITEFUNCTION, onBody);
    set(easy, CURLOPT_WRITEDATA, this);
    set(easy, CURLOPT_OPENSOCKETFUNCTION, onOpenSocket);
    set(easy, CURLOPT_OPENSOCKETDATA, &sockets);
    set(easy, CURLOPT_CLOSESOCKETFUNCTION, onCloseSocket);
    set(easy, CURLOPT_CLOSESOCKETDATA, &sockets);

    set(easy, CURLOPT_PROTOCOLS_STR, "https");
    set(easy, CURLOPT_FOLLOWLOCATION, 0L);
    set(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2TLS));
    set(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    set(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    set(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    // A CAPATH turns off curl's cache of parsed certificates, and Debian builds one in: 26 ms of CPU per connection.
    set(easy, CURLOPT_CAINFO, orNull(options.caFile));
    set(easy, CURLOPT_CAPATH, static_cast<const char*>(nullptr));
    set(easy, CURLOPT_CA_CACHE_TIMEOUT, caCacheSeconds);
    if (!tls::wipeWhatWasRead(easy))
        throw std::bad_alloc();

    set(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options.connectTimeout.count()));
    set(easy, CURLOPT_MAXAGE_CONN, longestIdleSeconds);
    set(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    set(easy, CURLOPT_TCP_NODELAY, 1L);
    set(easy, CURLOPT_USERAGENT, orNull(options.userAgent));
    // Empty, not null: the environment must not choose a proxy.
    set(easy, CURLOPT_PROXY, options.proxy.c_str());
    set(easy, CURLOPT_NOPROXY, "");

    if (!options.connectTo.empty()) {
        connectTo_.reset(curl_slist_append(nullptr, ("::" + options.connectTo).c_str()));
        if (connectTo_ == nullptr)
            throw std::bad_alloc();
        set(easy, CURLOPT_CONNECT_TO, connectTo_.get());
    }
}

bool Transfer::prepare(Request&& request, const Options& options, const Connections& connections,
                       bool waitForConnection)
{
    CURL* const easy = easy_.get();
    join(connections);
    id_ = request.id;
    timesIssued_ = timesTurnedBack_ = 0;
    error_[0] = '\0';
    method_ = std::move(request.method);
    body_ = std::move(request.body);
    setMethod();
    setHeaders(request);
    request.password.wipe();
    if (!isToken(method_) || !isOneLine(request.contentType))
        return false;

    const milliseconds timeout = request.timeout.count() > 0 ? request.timeout : options.requestTimeout;
    set(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(timeout.count()));
    set(easy, CURLOPT_PIPEWAIT, waitForConnection ? 1L : 0L);
    return curl_easy_setopt(easy, CURLOPT_URL, request.url.c_str()) == CURLE_OK;
}

void Transfer::join(const Connections& connections)
{
    if (isOn(connections))
        return;
    set(easy_.get(), CURLOPT_SHARE, connections->share());
    connections_ = connections;
}

bool Transfer::mayStartAgain(CURLcode result) const
{
    return result == CURLE_ABORTED_BY_CALLBACK && timesIssued_ == 0 && timesTurnedBack_ <= mostTurnedBack;
}

void Transfer::setMethod()
{
    CURL* const easy = easy_.get();
    if (method_ == "GET" && body_.empty()) {
        set(easy, CURLOPT_HTTPGET, 1L);
        set(easy, CURLOPT_CUSTOMREQUEST, static_cast<const char*>(nullptr));
        return;
    }
    if (method_ != "POST" && body_.empty()) {
        set(easy, CURLOPT_HTTPGET, 1L);
    } else {
        set(easy, CURLOPT_POST, 1L);
        set(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body_.size()));
        set(easy, CURLOPT_POSTFIELDS, body_.c_str()); // not copied: body_ stays until clear()
    }
    set(easy, CURLOPT_CUSTOMREQUEST, method_ == "POST" ? nullptr : method_.c_str());
}

void Transfer::addLine(Line& line, std::string_view text)
{
    line.text = Secret(text.size() + 1);
    std::memcpy(line.text.data(), text.data(), text.size());
    line.node = {line.text.data(), nullptr};
    (lastLine_ == nullptr ? firstLine_ : lastLine_->next) = &line.node;
    lastLine_ = &line.node;
}

void Transfer::setHeaders(const Request& request)
{
    firstLine_ = lastLine_ = nullptr;
    if (!request.username.empty()) {
        static constexpr std::string_view prefix = "Authorization: Basic ";
        Secret plain(request.username.size() + 1 + request.password.size());
        char* end = std::copy(request.username.begin(), request.username.end(), plain.data());
        *end++ = ':';
        std::copy_n(request.password.data(), request.password.size(), end);
        Secret header(prefix.size() + base64Size(plain.size()));
        encodeBase64(plain.view(), std::copy(prefix.begin(), prefix.end(), header.data()));
        addLine(authorization_, header.view());
    }
    addLine(accept_, "Accept: application/json");
    addLine(expect_, "Expect:"); // never ask for 100-continue
    if (!body_.empty())
        addLine(contentType_, "Content-Type: " + request.contentType);
    set(easy_.get(), CURLOPT_HTTPHEADER, firstLine_);
}

int Transfer::onIssue(void* self, char*, char*, int, int) noexcept
{
    auto& transfer = *static_cast<Transfer*>(self);
    if (transfer.timesIssued_ > 0 && transfer.method_ != "GET")
        return CURL_PREREQFUNC_ABORT;
    // libcurl 8 does not look whether a connection that it has used lately is still there.
    const bool isHungUp = transfer.timesIssued_ == 0 && SocketWatch::isHungUp(transfer.socket());
    if (isHungUp || !transfer.takeConnection()) {
        transfer.timesTurnedBack_++;
        return CURL_PREREQFUNC_ABORT;
    }
    transfer.timesIssued_++;
    return CURL_PREREQFUNC_OK;
}

// Where libcurl 7.88 has a connection of HTTP/2 to a host, it puts several requests on one of HTTP/1.1 to the same
// host, too, and each of them gets another's answer.
bool Transfer::takeConnection() noexcept
{
    letConnectionGo();
    const void* const connection = tls::connectionOf(easy());
    if (connection == nullptr)
        return true;
    if (tls::isHttp2(easy())) {
        tls::keepBuffers(easy());
        return true;
    }
    // One that is done has lost it, though its end may not have been noticed here.
    if (CURL* const other = connections_->holder(connection);
        other != nullptr && tls::connectionOf(other) == connection)
        return false;
    if (!connections_->hold(connection, easy()))
        return false;
    held_ = connection;
    return true;
}

void Transfer::letConnectionGo() noexcept
{
    if (held_ != nullptr)
        connections_->letGo(std::exchange(held_, nullptr), easy());
}

std::size_t Transfer::onBody(char* bytes, std::size_t, std::size_t size, void* self) noexcept
{
    auto& transfer = *static_cast<Transfer*>(self);
    const auto announced = std::max<curl_off_t>(0, numberOf(transfer.easy(), CURLINFO_CONTENT_LENGTH_DOWNLOAD_T));
    const bool isKept = transfer.response_.append(bytes, size, static_cast<std::size_t>(announced));
    ::explicit_bzero(bytes, size); // curl frees it as it is: see freeWiped()
    return isKept ? size : 0;
}

curl_socket_t Transfer::onOpenSocket(void* sockets, curlsocktype, curl_sockaddr* address) noexcept
{
    return static_cast<SocketWatch*>(sockets)->open(address->family, address->socktype, address->protocol);
}

int Transfer::onCloseSocket(void* sockets, curl_socket_t socket) noexcept
{
    static_cast<SocketWatch*>(sockets)->close(socket);
    return 0;
}

bool Transfer::wasHttp2() const
{
    long version = 0;
    curl_easy_getinfo(easy_.get(), CURLINFO_HTTP_VERSION, &version);
    return version == CURL_HTTP_VERSION_2_0;
}

curl_socket_t Transfer::socket() const
{
    curl_socket_t socket = CURL_SOCKET_BAD;
    curl_easy_getinfo(easy_.get(), CURLINFO_ACTIVESOCKET, &socket);
    return socket;
}

Transport Transfer::transportOf(CURLcode result) const
{
    if (result == CURLE_OK)
        return Transport::answered;
    if (response_.isTooLarge())
        return Transport::too_large;
    if (timesIssued_ == 0)
        return Transport::unreachable;
    return result == CURLE_OPERATION_TIMEDOUT ? Transport::timed_out : Transport::lost;
}

Reply Transfer::finish(CURLcode result)
{
    std::string error;
    if (response_.isTooLarge())
        error = "Twilio's answer is larger than twilio.max_response_size";
    else if (result == CURLE_ABORTED_BY_CALLBACK)
        error = timesIssued_ > 0 ? "the connection broke after the request had been sent"
                                 : "no connection was to be had on which to send the request";
    else if (result == CURLE_COULDNT_RESOLVE_PROXY || (result != CURLE_OK && error_[0] == '\0'))
        error = curl_easy_strerror(result); // of a proxy, for curl might tell its password
    else if (result != CURLE_OK)
        error = printable(error_);
    return makeReply(transportOf(result), std::move(error));
}

Reply Transfer::cancel()
{
    return makeReply(Transport::canceled, "canceled");
}

Reply Transfer::makeReply(Transport transport, std::string error)
{
    letConnectionGo();
    CURL* const easy = easy_.get();
    Reply reply;
    reply.id = id_;
    reply.transport = transport;
    reply.error = std::move(error);
    if (timesIssued_ > 0)
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &reply.status);
    reply.duration = std::chrono::microseconds(numberOf(easy, CURLINFO_TOTAL_TIME_T));
    reply.body = response_.take();
    if (reply.status != 0) {
        reply.requestId = headerOf(easy, "Twilio-Request-Id");
        if (const auto seconds = numberOf(easy, CURLINFO_RETRY_AFTER); seconds > 0)
            reply.retryAfter = std::chrono::seconds(seconds);
        if (const auto date = curl_getdate(headerOf(easy, "Date").c_str(), nullptr); date > 0 && date < endOfTime)
            reply.date = date;
    }
    return reply;
}

void Transfer::leaveConnections() noexcept
{
    curl_easy_setopt(easy_.get(), CURLOPT_SHARE, nullptr);
    connections_.reset();
}

void Transfer::clear() noexcept
{
    curl_easy_setopt(easy_.get(), CURLOPT_HTTPHEADER, nullptr);
    curl_easy_setopt(easy_.get(), CURLOPT_POSTFIELDS, nullptr);
    for (Line* line : {&authorization_, &contentType_, &accept_, &expect_})
        line->text.wipe();
    wipe(body_);
    response_.clear();
}

} // namespace twilio

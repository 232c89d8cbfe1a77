#include "curl_multi.hpp"

#include <algorithm>
#include <new>

#include <sys/resource.h>

#include "connections.hpp"

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

using std::chrono::milliseconds;

constexpr long fewestConnections = 16;
constexpr long descriptorsForOthers = 100;
constexpr rlim_t manyDescriptors = 10'000;

// Since 8.8 the multi handle reads into a buffer of its own, which it keeps.
bool keepsAnswers()
{
    return curl_version_info(CURLVERSION_NOW)->version_num >= 0x080800;
}

// Half of the descriptors at most: the owner has files and sockets of its own.
long mostConnections()
{
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return fewestConnections;
    const auto descriptors = static_cast<long>(std::min<rlim_t>(limit.rlim_cur, manyDescriptors));
    return std::max(fewestConnections, (descriptors - descriptorsForOthers) / 2);
}

} // namespace

void CurlMulti::open()
{
    multi_.reset(curl_multi_init());
    if (multi_ == nullptr)
        throw std::bad_alloc();
    CURLM* const multi = multi_.get();
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, onSocket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, onTimer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, this);
    curl_multi_setopt(multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
    curl_multi_setopt(multi, CURLMOPT_MAX_CONCURRENT_STREAMS, static_cast<long>(streamsPerConnection));
    curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, mostConnections());
    // By default curl closes idle connections beyond four times the requests in flight, so the next burst makes them
    // anew.
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, mostConnections());
}

void CurlMulti::forget()
{
    if (keepsAnswers())
        open();
}

int CurlMulti::onSocket(CURL*, curl_socket_t socket, int what, void* self, void*) noexcept
{
    auto& sockets = static_cast<CurlMulti*>(self)->sockets_;
    if (what != CURL_POLL_REMOVE)
        return sockets.watch(socket, (what & CURL_POLL_IN) != 0, (what & CURL_POLL_OUT) != 0) ? 0 : -1;
    sockets.rest(socket);
    return 0;
}

int CurlMulti::onTimer(CURLM*, long timeout, void* self) noexcept
{
    auto& deadline = static_cast<CurlMulti*>(self)->deadline_;
    if (timeout < 0)
        deadline.reset();
    else
        deadline = Clock::now() + milliseconds(timeout);
    return 0;
}

void CurlMulti::drive(curl_socket_t socket, int events)
{
    int running = 0;
    curl_multi_socket_action(multi_.get(), socket, events, &running);
}

void CurlMulti::pump(const Recall& recall)
{
    for (const SocketWatch::Event& event : sockets_.look()) {
        if (recall)
            return; // epoll will name the others again
        drive(event.socket, (event.isReadable ? CURL_CSELECT_IN : 0) | (event.isWritable ? CURL_CSELECT_OUT : 0) |
                                (event.isBroken ? CURL_CSELECT_ERR : 0));
    }
    if (deadline_ && *deadline_ <= Clock::now()) {
        deadline_.reset();
        drive(CURL_SOCKET_TIMEOUT, 0);
    }
}

std::optional<CurlMulti::Done> CurlMulti::nextDone()
{
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left))
        if (message->msg == CURLMSG_DONE)
            return Done{message->easy_handle, message->data.result};
    return std::nullopt;
}

} // namespace twilio

// The event loop around curl's multi interface.
//
// curl says which sockets it wants watched (onSocket) and when it wants to be
// called at the latest (onTimer); pump() tells it what has happened. The timer is
// a plain deadline: no timerfd, no wake-up that nobody asked for.
#include "http_engine.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <new>
#include <unordered_map>
#include <utility>
#include <vector>

#include <curl/curl.h>
#include <malloc.h>
#include <sys/resource.h>

#include "ca_file.hpp"
#include "clock.hpp"
#include "connections.hpp"
#include "http_transfer.hpp"
#include "signals_blocked.hpp"
#include "socket_watch.hpp"
#include "wiped_memory.hpp"

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

struct MultiCleanup {
    void operator()(CURLM* multi) const noexcept { curl_multi_cleanup(multi); }
};

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

class HttpEngine::Impl {
public:
    explicit Impl(Options options);
    ~Impl();

    void configure(Options options);
    void start(Request&& request);
    void cancel(std::uint64_t id);
    void pump();
    std::optional<Reply> next();
    milliseconds waitMillis() const;
    int descriptor() const { return sockets_.descriptor(); }
    std::size_t inFlight() const { return inFlight_.size(); }
    void forget();

private:
    using Owned = std::unique_ptr<Transfer>;

    static int onSocket(CURL*, curl_socket_t socket, int what, void* self, void* known) noexcept;
    static int onTimer(CURLM*, long timeout, void* self) noexcept;

    void adopt(Options&& options);
    void openMulti();
    void renewConnections();
    void leaveBroken(const Transfer& transfer);
    Owned takeIdle();
    void release(Owned transfer);
    void refuse(std::uint64_t id, const char* why);
    void drive(curl_socket_t socket, int events);
    void collect();
    static bool hasFailed(const Transfer& transfer, const Reply& reply);
    void complete(Transfer& transfer, CURLcode result);
    bool isTimerDue() const { return deadline_ && *deadline_ <= Clock::now(); }

    SocketWatch sockets_;
    Options given_;
    Options options_; // as given, but for the name of the certificates
    CaFile certificates_;
    std::uint64_t generation_ = 0; // of the options
    bool speaksHttp2_ = true;      // until an answer shows otherwise
    std::optional<TimePoint> deadline_;
    std::deque<Reply> finished_;
    std::unique_ptr<CURLM, MultiCleanup> multi_;
    // The kept connections, apart from the multi handle, which keeps the parsed certificates: those are dear.
    KeptConnections connections_;
    std::size_t startedSincePump_ = 0;
    std::vector<Owned> idle_;
    std::unordered_map<std::uint64_t, Owned> inFlight_;
};

HttpEngine::Impl::Impl(Options options)
{
    adopt(std::move(options));
    openMulti();
}

void HttpEngine::Impl::openMulti()
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

void HttpEngine::Impl::renewConnections()
{
    connections_.renew();
    for (const Owned& transfer : idle_)
        transfer->leaveConnections();
}

// Beside what is left of a broken connection, requests do not wait for a new HTTP/2 connection but make one each
// (libcurl 7.88), so they get a new set. The first that was on it says so.
void HttpEngine::Impl::leaveBroken(const Transfer& transfer)
{
    if (transfer.isOn(connections_.current()))
        renewConnections();
}

HttpEngine::Impl::~Impl()
{
    const SignalsBlocked blocked;
    for (const auto& [id, transfer] : inFlight_)
        curl_multi_remove_handle(multi_.get(), transfer->easy());
    inFlight_.clear();
    idle_.clear();
    connections_.drop();
    multi_.reset();
}

void HttpEngine::Impl::adopt(Options&& options)
{
    generation_++;
    given_ = options;
    options_ = std::move(options);
    certificates_ = CaFile(given_.caFile);
    options_.caFile = certificates_.alias(generation_);
}

void HttpEngine::Impl::configure(Options options)
{
    if (options == given_ && !certificates_.hasChanged())
        return;
    adopt(std::move(options));
    idle_.clear();
    speaksHttp2_ = true;
    renewConnections();
}

HttpEngine::Impl::Owned HttpEngine::Impl::takeIdle()
{
    if (idle_.empty())
        return std::make_unique<Transfer>(options_, generation_, sockets_);
    Owned transfer = std::move(idle_.back());
    idle_.pop_back();
    return transfer;
}

void HttpEngine::Impl::release(Owned transfer)
{
    transfer->clear();
    if (transfer->generation() != generation_)
        return;
    if (!transfer->isOn(connections_.current()))
        transfer->leaveConnections();
    idle_.push_back(std::move(transfer));
}

// A request that could not even start.
void HttpEngine::Impl::refuse(std::uint64_t id, const char* why)
{
    Reply& reply = finished_.emplace_back();
    reply.id = id;
    reply.error = why;
}

void HttpEngine::Impl::start(Request&& request)
{
    if (speaksHttp2_ && connections_.areWornOut())
        renewConnections();
    const std::uint64_t id = request.id;
    Owned transfer = takeIdle();
    // On HTTP/2 a request waits for the connection that is being made and shares it. Where there is none, nobody waits.
    if (!transfer->prepare(std::move(request), options_, connections_.current(), speaksHttp2_)) {
        release(std::move(transfer));
        return refuse(id, "the request is malformed");
    }
    const auto [place, isNew] = inFlight_.try_emplace(id, std::move(transfer));
    if (!isNew)
        return refuse(id, "a request with this number is in flight already");
    if (curl_multi_add_handle(multi_.get(), place->second->easy()) != CURLM_OK) {
        release(std::move(place->second));
        inFlight_.erase(place);
        return refuse(id, "curl did not take the request");
    }
    connections_.started(inFlight_.size());
    startedSincePump_++;
}

void HttpEngine::Impl::cancel(std::uint64_t id)
{
    const SignalsBlocked blocked;
    const auto found = inFlight_.find(id);
    if (found == inFlight_.end())
        return;
    Transfer& transfer = *found->second;
    finished_.push_back(transfer.cancel());
    curl_multi_remove_handle(multi_.get(), transfer.easy());
    release(std::move(found->second));
    inFlight_.erase(found);
}

int HttpEngine::Impl::onSocket(CURL*, curl_socket_t socket, int what, void* self, void*) noexcept
{
    auto& sockets = static_cast<Impl*>(self)->sockets_;
    if (what != CURL_POLL_REMOVE)
        return sockets.watch(socket, (what & CURL_POLL_IN) != 0, (what & CURL_POLL_OUT) != 0) ? 0 : -1;
    sockets.rest(socket);
    return 0;
}

int HttpEngine::Impl::onTimer(CURLM*, long timeout, void* self) noexcept
{
    auto& deadline = static_cast<Impl*>(self)->deadline_;
    if (timeout < 0)
        deadline.reset();
    else
        deadline = Clock::now() + milliseconds(timeout);
    return 0;
}

void HttpEngine::Impl::drive(curl_socket_t socket, int events)
{
    int running = 0;
    curl_multi_socket_action(multi_.get(), socket, events, &running);
}

void HttpEngine::Impl::pump()
{
    const SignalsBlocked blocked;
    std::optional<SocketWatch::Cork> cork;
    if (std::exchange(startedSincePump_, 0) > 1 && speaksHttp2_)
        cork.emplace(sockets_);
    for (const SocketWatch::Event& event : sockets_.look())
        drive(event.socket, (event.isReadable ? CURL_CSELECT_IN : 0) | (event.isWritable ? CURL_CSELECT_OUT : 0) |
                                (event.isBroken ? CURL_CSELECT_ERR : 0));
    if (isTimerDue()) {
        deadline_.reset();
        drive(CURL_SOCKET_TIMEOUT, 0);
    }
    collect();
}

void HttpEngine::Impl::collect()
{
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left))
        if (message->msg == CURLMSG_DONE)
            complete(*Transfer::of(message->easy_handle), message->data.result);
}

// Whether the connection has, not this request alone. One that was cut off without a word looks well to curl, and would
// swallow all that follows.
bool HttpEngine::Impl::hasFailed(const Transfer& transfer, const Reply& reply)
{
    return reply.transport == Transport::lost ||
           (reply.transport == Transport::timed_out && SocketWatch::silence(transfer.socket()) > reply.duration / 2);
}

void HttpEngine::Impl::complete(Transfer& transfer, CURLcode result)
{
    if (transfer.mayStartAgain(result)) {
        curl_multi_remove_handle(multi_.get(), transfer.easy());
        leaveBroken(transfer);
        transfer.join(connections_.current());
        if (curl_multi_add_handle(multi_.get(), transfer.easy()) == CURLM_OK)
            return;
    }
    finished_.push_back(transfer.finish(result));
    if (result == CURLE_OK) {
        speaksHttp2_ = transfer.wasHttp2();
        if (speaksHttp2_)
            sockets_.tolerate(transfer.socket());
    } else if (speaksHttp2_ && hasFailed(transfer, finished_.back())) {
        leaveBroken(transfer);
    }
    curl_multi_remove_handle(multi_.get(), transfer.easy());
    auto node = inFlight_.extract(transfer.id());
    // After a failure the handle remembers that it tried again, and would give up sooner the next time.
    if (result == CURLE_OK)
        release(std::move(node.mapped()));
}

std::optional<Reply> HttpEngine::Impl::next()
{
    if (finished_.empty())
        return std::nullopt;
    Reply reply = std::move(finished_.front());
    finished_.pop_front();
    return reply;
}

milliseconds HttpEngine::Impl::waitMillis() const
{
    if (!finished_.empty())
        return milliseconds(0);
    if (!deadline_)
        return milliseconds(-1);
    return std::max(milliseconds(0), std::chrono::ceil<milliseconds>(*deadline_ - Clock::now()));
}

void HttpEngine::Impl::forget()
{
    const SignalsBlocked blocked;
    idle_.clear();
    idle_.shrink_to_fit();
    renewConnections();
    if (inFlight_.empty() && keepsAnswers())
        openMulti();
    wipeFreedMemory();
    wipeUnusedStack();
}

void HttpEngine::prepareProcess()
{
    // One for this thread and one for that which sends: each wipes its own, and neither waits for the other.
    ::mallopt(M_ARENA_MAX, 2);
    if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, std::malloc, freeWiped, reallocateWiped, ::strdup, std::calloc) !=
        CURLE_OK)
        throw std::bad_alloc();
}

HttpEngine::HttpEngine(Options options) : impl_(std::make_unique<Impl>(std::move(options))) {}
HttpEngine::~HttpEngine() = default;

void HttpEngine::configure(Options options)
{
    impl_->configure(std::move(options));
}
void HttpEngine::start(Request&& request)
{
    impl_->start(std::move(request));
}
void HttpEngine::cancel(std::uint64_t id)
{
    impl_->cancel(id);
}
void HttpEngine::pump()
{
    impl_->pump();
}
std::optional<Reply> HttpEngine::next()
{
    return impl_->next();
}
milliseconds HttpEngine::waitMillis() const
{
    return impl_->waitMillis();
}
int HttpEngine::descriptor() const
{
    return impl_->descriptor();
}
std::size_t HttpEngine::inFlight() const
{
    return impl_->inFlight();
}
void HttpEngine::forget()
{
    impl_->forget();
}

} // namespace twilio

// The event loop around curl's multi interface.
//
// curl says which sockets it wants watched (onSocket) and when it wants to be
// called at the latest (onTimer); pump() tells it what has happened. The timer is
// a plain deadline: no timerfd, no wake-up that nobody asked for.
#include "http_engine.hpp"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <deque>
#include <new>
#include <system_error>
#include <unordered_map>
#include <vector>

#include <curl/curl.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clock.hpp"
#include "http_transfer.hpp"
#include "wiped_memory.hpp"

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

using std::chrono::milliseconds;

constexpr int eventsPerTurn = 256;
constexpr long streamsPerConnection = 100; // so that one broken connection leaves few requests in doubt
constexpr long fewestConnections = 16;
constexpr long descriptorsForOthers = 100;

struct MultiCleanup {
    void operator()(CURLM* multi) const noexcept { curl_multi_cleanup(multi); }
};

// curl may start resolver threads. They inherit the signal mask, and no signal may be delivered to them.
class SignalsBlocked {
public:
    SignalsBlocked()
    {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;

private:
    sigset_t before_{};
};

// Half of the descriptors at most: the owner has files and sockets of its own.
long mostConnections()
{
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return 0; // none
    return std::max(fewestConnections, (static_cast<long>(limit.rlim_cur) - descriptorsForOthers) / 2);
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
    int descriptor() const { return epoll_; }
    std::size_t inFlight() const { return inFlight_.size(); }
    void forget();

private:
    using Owned = std::unique_ptr<Transfer>;

    static int onSocket(CURL*, curl_socket_t socket, int what, void* self, void* known) noexcept;
    static int onTimer(CURLM*, long timeout, void* self) noexcept;

    Owned takeIdle();
    void release(Owned transfer);
    void refuse(std::uint64_t id, const char* why);
    void drive(curl_socket_t socket, int events);
    void collect();
    void complete(Transfer& transfer, CURLcode result);
    bool isTimerDue() const { return deadline_ && *deadline_ <= Clock::now(); }

    int epoll_;
    Options options_;
    std::uint64_t generation_ = 1;
    bool speaksHttp2_ = true; // until an answer shows otherwise
    std::optional<TimePoint> deadline_;
    std::deque<Reply> finished_;
    std::unique_ptr<CURLM, MultiCleanup> multi_;
    std::vector<Owned> idle_;
    std::unordered_map<std::uint64_t, Owned> inFlight_;
};

HttpEngine::Impl::Impl(Options options) : epoll_(::epoll_create1(EPOLL_CLOEXEC)), options_(std::move(options))
{
    if (epoll_ < 0)
        throw std::system_error(errno, std::generic_category(), "epoll_create1");
    multi_.reset(curl_multi_init());
    if (multi_ == nullptr) {
        ::close(epoll_);
        throw std::bad_alloc();
    }
    CURLM* const multi = multi_.get();
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, onSocket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, onTimer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, this);
    curl_multi_setopt(multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
    curl_multi_setopt(multi, CURLMOPT_MAX_CONCURRENT_STREAMS, streamsPerConnection);
    curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, mostConnections());
}

HttpEngine::Impl::~Impl()
{
    const SignalsBlocked blocked;
    for (const auto& [id, transfer] : inFlight_)
        curl_multi_remove_handle(multi_.get(), transfer->easy());
    inFlight_.clear();
    idle_.clear();
    multi_.reset();
    ::close(epoll_);
}

void HttpEngine::Impl::configure(Options options)
{
    if (options == options_)
        return;
    options_ = std::move(options);
    generation_++;
    speaksHttp2_ = true;
}

HttpEngine::Impl::Owned HttpEngine::Impl::takeIdle()
{
    Owned transfer;
    if (idle_.empty()) {
        transfer = std::make_unique<Transfer>();
    } else {
        transfer = std::move(idle_.back());
        idle_.pop_back();
    }
    if (transfer->generation() != generation_)
        transfer->configure(options_, generation_);
    return transfer;
}

void HttpEngine::Impl::release(Owned transfer)
{
    transfer->clear();
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
    const std::uint64_t id = request.id;
    Owned transfer = takeIdle();
    // On HTTP/2 a request waits for the connection that is being made and shares it. Where there is none, nobody waits.
    if (!transfer->prepare(std::move(request), options_, speaksHttp2_)) {
        release(std::move(transfer));
        return refuse(id, "the request is malformed");
    }
    const auto [place, isNew] = inFlight_.try_emplace(id, std::move(transfer));
    if (!isNew)
        return refuse(id, "a request with this number is in flight already");
    if (curl_multi_add_handle(multi_.get(), place->second->easy()) != CURLM_OK) {
        release(std::move(place->second));
        inFlight_.erase(place);
        refuse(id, "curl did not take the request");
    }
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

int HttpEngine::Impl::onSocket(CURL*, curl_socket_t socket, int what, void* self, void* known) noexcept
{
    const auto& engine = *static_cast<Impl*>(self);
    if (what == CURL_POLL_REMOVE) {
        ::epoll_ctl(engine.epoll_, EPOLL_CTL_DEL, socket, nullptr);
        return 0;
    }
    epoll_event event{};
    event.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
    event.data.fd = socket;
    if (::epoll_ctl(engine.epoll_, known == nullptr ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, socket, &event) != 0)
        return -1;
    if (known == nullptr)
        curl_multi_assign(engine.multi_.get(), socket, self); // anything but null: it is watched
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
    std::array<epoll_event, eventsPerTurn> events{};
    const int count = ::epoll_wait(epoll_, events.data(), eventsPerTurn, 0);
    for (int i = 0; i < count; i++) {
        const epoll_event& event = events[static_cast<std::size_t>(i)];
        drive(event.data.fd, (event.events & EPOLLIN ? CURL_CSELECT_IN : 0) |
                                 (event.events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                                 (event.events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0));
    }
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

void HttpEngine::Impl::complete(Transfer& transfer, CURLcode result)
{
    finished_.push_back(transfer.finish(result));
    if (result == CURLE_OK)
        speaksHttp2_ = transfer.wasHttp2();
    curl_multi_remove_handle(multi_.get(), transfer.easy());
    auto node = inFlight_.extract(transfer.id());
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
    idle_.clear();
    idle_.shrink_to_fit();
    wipeFreedMemory();
    wipeUnusedStack();
}

void HttpEngine::prepareProcess()
{
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

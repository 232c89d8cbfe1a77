// Which transfer carries a request, over which connections, and what the end of one says about the other requests.
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

#include "ca_file.hpp"
#include "connections.hpp"
#include "curl_multi.hpp"
#include "http_transfer.hpp"
#include "signals_blocked.hpp"
#include "wiped_memory.hpp"

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

using std::chrono::milliseconds;

class HttpEngine::Impl {
public:
    explicit Impl(Options options);
    ~Impl();

    void configure(Options options);
    void start(Request&& request);
    void cancel(std::uint64_t id);
    void pump(const Recall& recall);
    std::optional<Reply> next();
    milliseconds waitMillis() const;
    int descriptor() const { return multi_.sockets().descriptor(); }
    std::size_t inFlight() const { return inFlight_.size(); }
    void forget();

private:
    using Owned = std::unique_ptr<Transfer>;

    void adopt(Options&& options);
    void renewConnections();
    void leaveBroken(const Transfer& transfer);
    Owned takeIdle();
    void release(Owned transfer);
    void refuse(std::uint64_t id, const char* why);
    static bool hasFailed(const Transfer& transfer, const Reply& reply);
    void complete(Transfer& transfer, CURLcode result);

    Options given_;
    Options options_; // as given, but for the name of the certificates
    CaFile certificates_;
    std::uint64_t generation_ = 0; // of the options
    bool speaksHttp2_ = true;      // until an answer shows otherwise
    std::deque<Reply> finished_;
    CurlMulti multi_;
    // The kept connections, apart from the multi handle, which keeps the parsed certificates: those are dear.
    KeptConnections connections_;
    std::size_t startedSincePump_ = 0;
    std::vector<Owned> idle_;
    std::unordered_map<std::uint64_t, Owned> inFlight_;
};

HttpEngine::Impl::Impl(Options options)
{
    adopt(std::move(options));
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
        multi_.remove(transfer->easy());
    inFlight_.clear();
    idle_.clear();
    connections_.drop();
    multi_.close();
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
        return std::make_unique<Transfer>(options_, generation_, multi_.sockets());
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
    if (!multi_.add(place->second->easy())) {
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
    multi_.remove(transfer.easy());
    release(std::move(found->second));
    inFlight_.erase(found);
}

void HttpEngine::Impl::pump(const Recall& recall)
{
    const SignalsBlocked blocked;
    std::optional<SocketWatch::Cork> cork;
    if (std::exchange(startedSincePump_, 0) > 1 && speaksHttp2_)
        cork.emplace(multi_.sockets());
    multi_.pump(recall);
    while (const auto done = multi_.nextDone())
        complete(*Transfer::of(done->easy), done->result);
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
        multi_.remove(transfer.easy());
        leaveBroken(transfer);
        transfer.join(connections_.current());
        if (multi_.add(transfer.easy()))
            return;
    }
    finished_.push_back(transfer.finish(result));
    if (result == CURLE_OK) {
        speaksHttp2_ = transfer.wasHttp2();
        if (speaksHttp2_)
            multi_.sockets().tolerate(transfer.socket());
    } else if (speaksHttp2_ && hasFailed(transfer, finished_.back())) {
        leaveBroken(transfer);
    }
    multi_.remove(transfer.easy());
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
    const auto& deadline = multi_.deadline();
    if (!deadline)
        return milliseconds(-1);
    return std::max(milliseconds(0), std::chrono::ceil<milliseconds>(*deadline - Clock::now()));
}

void HttpEngine::Impl::forget()
{
    const SignalsBlocked blocked;
    idle_.clear();
    idle_.shrink_to_fit();
    renewConnections();
    if (inFlight_.empty())
        multi_.forget();
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
void HttpEngine::pump(const Recall& recall)
{
    impl_->pump(recall);
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

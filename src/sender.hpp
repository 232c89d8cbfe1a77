// Starts the requests of claimed orders as slots fall free, and collects the replies.
//
// It knows no PostgreSQL, so that it can go on in a thread of its own while the
// worker is busy with SQL (sending_thread.hpp). It belongs to one thread at a time.
#pragma once

#include <deque>
#include <list>
#include <optional>
#include <unordered_map>
#include <vector>

#include "http_engine.hpp"
#include "order.hpp"
#include "turns.hpp"

namespace twilio {

class Sender {
public:
    struct Answered {
        Order order;
        Reply reply; // without secrets
        Outcome outcome;
    };
    struct Refused { // not started: Twilio refuses the account, its user may not send any more, or it is too late
        Order order;
        const char* outcome;
        Refusal why;
    };

    explicit Sender(HttpEngine& engine) : engine_(engine) {}
    Sender(const Sender&) = delete;
    Sender& operator=(const Sender&) = delete;

    // Nothing is started while the bodies of what is answered and not yet taken have so many bytes.
    static constexpr std::size_t mostAnswered = 1024 * 1024;

    // So many requests of orders may be in flight; 0: no further one is started.
    void allow(std::size_t mostInFlight) { mostInFlight_ = mostInFlight; }

    // An order whose claim is committed, counted as ready by turns().claimed().
    void add(Order order, Request request);

    // Fills slots that are free; pump() does so as well. What starts together is one step of curl, which no recall
    // cuts short, so it is a part only. True: something was started, and leaves with the next pump().
    bool start();

    // Moves everything on that can move, without waiting, and collects replies. As start().
    bool pump(const Recall& recall = notRecalled);

    std::vector<Answered> takeAnswered();
    std::vector<Refused> takeRefused() { return std::exchange(refused_, {}); }
    std::vector<std::int64_t> readyIds() const;
    void giveBackReady();             // forgets what was not started
    std::optional<Reply> nextOther(); // a reply to what others have asked the engine

    Turns& turns() { return turns_; }
    std::size_t ready() const { return ready_.size(); }
    std::size_t inFlight() const { return inFlight_.size(); }
    bool hasReplies() const { return !answered_.empty() || !refused_.empty() || !others_.empty(); }
    bool idle() const { return ready_.empty() && inFlight_.empty() && !hasReplies(); }

private:
    struct Ready {
        Order order;
        Request request;
    };

    static constexpr std::size_t startedAtOnce = 16;

    bool take(Reply& reply);
    void succeed(const Order& order, Reply& reply);
    bool mayStart() const { return inFlight_.size() < mostInFlight_ && answeredBytes_ < mostAnswered; }

    HttpEngine& engine_;
    Turns turns_;
    std::size_t mostInFlight_ = 0;
    std::list<Ready> ready_;
    std::unordered_map<std::uint64_t, Order> inFlight_; // by the request's id
    std::vector<Answered> answered_;
    std::size_t answeredBytes_ = 0;
    std::vector<Refused> refused_;
    std::deque<Reply> others_;
};

} // namespace twilio

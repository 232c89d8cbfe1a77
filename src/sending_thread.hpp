// The sender goes on in a thread of its own while the worker is busy with SQL: a
// commit that waits for the disk or a standby holds up no request, and where there
// is a second processor, the two share the work.
//
// There is no lock: the sender is lent to the thread and taken back, so one thread
// has it at a time. The thread knows no PostgreSQL and receives no signal; it is
// there only while there is much to send.
#pragma once

#include <atomic>
#include <exception>
#include <optional>

#include <pthread.h>

#include "sender.hpp"

namespace twilio {

class SendingThread {
public:
    explicit SendingThread(Sender& sender);
    ~SendingThread();
    SendingThread(const SendingThread&) = delete;
    SendingThread& operator=(const SendingThread&) = delete;

    // While one lives, the sender is the thread's and nobody else may touch it. Without a thread, which the system may
    // refuse, it rests.
    class Loan {
    public:
        explicit Loan(SendingThread& thread) : thread_(thread) { thread_.lend(); }
        ~Loan() { thread_.takeBack(); }
        Loan(const Loan&) = delete;
        Loan& operator=(const Loan&) = delete;

    private:
        SendingThread& thread_;
    };

    // Throws what has failed during the last loan, after which nobody knows what became of the sender's orders.
    void check();

    // Ends the thread, which wipes what is free of its memory; the next loan starts another. May be called during a
    // loan, when the process ends.
    void end() noexcept;

private:
    enum class Turn : int { workers, threads, over };

    void lend();
    void takeBack() noexcept;
    void begin();
    void run() noexcept;
    void send();

    Sender& sender_;
    int called_; // an eventfd, readable when the sender is wanted back
    Recall recall_ = false;
    std::atomic<Turn> turn_ = Turn::workers;
    std::exception_ptr failure_;
    std::optional<pthread_t> thread_;
    void* stack_ = nullptr; // ours, because glibc keeps those of threads that have ended
};

} // namespace twilio

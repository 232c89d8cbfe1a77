// Whose turn it is, is one atomic number on which the other side waits.
#include "sending_thread.hpp"

#include <system_error>

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "signals_blocked.hpp"
#include "wiped_memory.hpp"

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

// Replies are taken in heaps: waking up for each one would cost more than reading it.
constexpr int pauseMillis = 1;
constexpr std::size_t stackSize = 1024 * 1024;
constexpr std::size_t guardSize = 64 * 1024;

} // namespace

SendingThread::SendingThread(Sender& sender) : sender_(sender), called_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))
{
    if (called_ < 0)
        throw std::system_error(errno, std::generic_category(), "eventfd");
}

SendingThread::~SendingThread()
{
    end();
    ::close(called_);
}

void SendingThread::begin()
{
    stack_ = ::mmap(nullptr, stackSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack_ == MAP_FAILED)
        return;
    ::mprotect(stack_, guardSize, PROT_NONE);
    pthread_attr_t attributes;
    ::pthread_attr_init(&attributes);
    ::pthread_attr_setstack(&attributes, stack_, stackSize);
    const auto body = [](void* self) -> void* {
        static_cast<SendingThread*>(self)->run();
        return nullptr;
    };
    const SignalsBlocked blocked; // for the thread, which inherits it
    pthread_t thread{};
    if (::pthread_create(&thread, &attributes, body, this) == 0) {
        ::pthread_setname_np(thread, "pg_twilio send");
        thread_ = thread;
    } else {
        ::munmap(stack_, stackSize);
    }
    ::pthread_attr_destroy(&attributes);
}

void SendingThread::check()
{
    if (failure_)
        std::rethrow_exception(std::exchange(failure_, nullptr));
}

void SendingThread::lend()
{
    check();
    if (!thread_)
        begin();
    if (!thread_)
        return;
    turn_ = Turn::threads;
    turn_.notify_one();
}

void SendingThread::takeBack() noexcept
{
    recall_ = true;
    ::eventfd_write(called_, 1);
    turn_.wait(Turn::threads);
    eventfd_t calls = 0;
    ::eventfd_read(called_, &calls);
    recall_ = false;
}

void SendingThread::end() noexcept
{
    if (!thread_)
        return;
    takeBack();
    turn_ = Turn::over;
    turn_.notify_one();
    ::pthread_join(*thread_, nullptr);
    ::munmap(stack_, stackSize);
    thread_.reset();
    turn_ = Turn::workers;
}

void SendingThread::run() noexcept
{
    for (turn_.wait(Turn::workers); turn_ != Turn::over; turn_.wait(Turn::workers)) {
        try {
            send();
        } catch (...) {
            failure_ = std::current_exception();
        }
        turn_ = Turn::workers;
        turn_.notify_one();
    }
    wipeFreedMemory();
}

void SendingThread::send()
{
    pollfd called{called_, POLLIN, 0};
    bool hasStarted = true;
    do
        hasStarted = sender_.pump(recall_);
    while (::poll(&called, 1, hasStarted ? 0 : pauseMillis) == 0);
}

} // namespace twilio

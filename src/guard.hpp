// The two crossings between C++ and PostgreSQL's longjmp.
//
// entry()   SQL calls C++: exceptions are caught, the catch block is left, and
//           only then an error is raised, so no C++ object is alive when
//           longjmp runs.
// guarded() C++ calls PostgreSQL: an error raised inside becomes an Error that
//           keeps SQLSTATE, DETAIL and HINT. The callable must own nothing with
//           a destructor. After an Error the transaction is broken: re-raise
//           it or abort, and run no more SQL in it. Only of what holds nothing
//           when it raises, input functions and pgcrypto, it may be survived.
#pragma once

#include "compat.hpp"

namespace twilio::pg {

// An error that PostgreSQL raised, on its way through C++ frames. It lives in a
// memory context of its own, so that it outlasts the transaction it broke.
class Error final : public std::exception {
public:
    Error(MemoryContext home, ErrorData* data) : owned_(std::make_shared<Owned>(home, data)) {}
    const char* what() const noexcept override { return data()->message ? data()->message : "unknown error"; }
    int sqlstate() const noexcept { return data()->sqlerrcode; }
    const ErrorData* data() const noexcept { return owned_->data; }

    // Hands the error over to the current memory context, to be re-raised.
    ErrorData* adopt() const
    {
        MemoryContextSetParent(owned_->home, CurrentMemoryContext);
        owned_->home = nullptr;
        return owned_->data;
    }

private:
    struct Owned {
        Owned(MemoryContext home, ErrorData* data) : home(home), data(data) {}
        ~Owned()
        {
            if (home != nullptr)
                MemoryContextDelete(home);
        }
        Owned(const Owned&) = delete;
        Owned& operator=(const Owned&) = delete;
        MemoryContext home;
        ErrorData* data;
    };
    std::shared_ptr<Owned> owned_;
};

// An error of ours. `message` is constant text, because PostgREST makes it the
// HTTP reason phrase; what varies belongs into detail.
struct Failure final : std::exception {
    Failure(const char* sqlstate, const char* message, std::string detail = {}, std::string hint = {})
        : sqlstate(sqlstate), message(message), detail(std::move(detail)), hint(std::move(hint))
    {
    }
    const char* what() const noexcept override { return message; }
    int code() const noexcept { return MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2], sqlstate[3], sqlstate[4]); }

    const char* sqlstate;
    const char* message;
    std::string detail;
    std::string hint;
};

// What a Failure says, copied, so that the Failure can be destroyed before raise() jumps.
struct Raised {
    int code = 0;
    const char* message = nullptr;
    char* detail = nullptr;
    char* hint = nullptr;

    explicit Raised(const Failure& failure)
        : code(failure.code()), message(failure.message),
          detail(failure.detail.empty() ? nullptr : pstrdup(failure.detail.c_str())),
          hint(failure.hint.empty() ? nullptr : pstrdup(failure.hint.c_str()))
    {
    }
    Raised() = default;
};

[[noreturn]] inline void raise(const Raised& what)
{
    ereport(ERROR, (errcode(what.code), errmsg_internal("%s", what.message),
                    what.detail != nullptr ? errdetail_internal("%s", what.detail) : 0,
                    what.hint != nullptr ? errhint("%s", what.hint) : 0));
    pg_unreachable();
}

template<typename Body>
auto entry(Body&& body) -> decltype(body())
{
    ErrorData* raised = nullptr;
    Raised ours;
    char text[256] = "unknown exception";
    bool outOfMemory = false;

    try {
        return body();
    } catch (const Error& error) {
        raised = error.adopt();
    } catch (const Failure& failure) {
        ours = Raised(failure);
    } catch (const std::bad_alloc&) {
        outOfMemory = true;
    } catch (const std::exception& exception) {
        strlcpy(text, exception.what(), sizeof(text));
    } catch (...) {
    }

    if (raised != nullptr)
        ReThrowError(raised);
    if (ours.message != nullptr)
        raise(ours);
    if (outOfMemory)
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
    ereport(ERROR,
            (errcode(ERRCODE_INTERNAL_ERROR), errmsg("pg_twilio failed unexpectedly"), errdetail_internal("%s", text)));
    pg_unreachable();
}

// Puts PostgreSQL's error handling back as it was, however the scope is left.
class ErrorStackScope {
public:
    ErrorStackScope() : stack_(PG_exception_stack), context_(error_context_stack) {}
    ~ErrorStackScope()
    {
        PG_exception_stack = stack_;
        error_context_stack = context_;
    }
    ErrorStackScope(const ErrorStackScope&) = delete;
    ErrorStackScope& operator=(const ErrorStackScope&) = delete;

private:
    sigjmp_buf* stack_;
    ErrorContextCallback* context_;
};

template<typename Body>
auto guarded(Body&& body) -> decltype(body())
{
    ErrorStackScope scope;
    MemoryContext const caller = CurrentMemoryContext;
    volatile bool isCaught = false;
    sigjmp_buf jump;

    if (sigsetjmp(jump, 0) == 0) {
        PG_exception_stack = &jump;
        return body();
    }
    // The error cannot be copied, for want of memory: that jumps here, too, and would do so until PostgreSQL panics.
    if (isCaught) {
        MemoryContextSwitchTo(caller);
        FlushErrorState();
        throw std::bad_alloc();
    }
    isCaught = true;
    MemoryContext const home = AllocSetContextCreate(TopMemoryContext, "pg_twilio error", ALLOCSET_SMALL_SIZES);
    MemoryContextSwitchTo(home);
    ErrorData* const data = CopyErrorData();
    FlushErrorState();
    MemoryContextSwitchTo(caller);
    throw Error(home, data);
}

// Allocations of a scope, given back at its end: straight to malloc, which may
// be overwriting what it gets (wiped_memory.hpp), and not to PostgreSQL's list
// of spare contexts.
class MemoryScope {
public:
    explicit MemoryScope(const char* name)
        : context_(AllocSetContextCreateInternal(CurrentMemoryContext, "pg_twilio", 0, 16 * 1024, 1024 * 1024)),
          previous_(MemoryContextSwitchTo(context_))
    {
        MemoryContextSetIdentifier(context_, name);
    }
    ~MemoryScope()
    {
        MemoryContextSwitchTo(previous_);
        MemoryContextDelete(context_);
    }
    MemoryScope(const MemoryScope&) = delete;
    MemoryScope& operator=(const MemoryScope&) = delete;

private:
    MemoryContext context_;
    MemoryContext previous_;
};

// The commit of the current transaction does not wait for the disk. For what may
// be lost in a crash. Inside guarded(), or where an error may be raised.
void commitLazily();

// From the first call on, these are told of the end of each transaction and subtransaction of this process.
template<XactCallback atEndOfTransaction, SubXactCallback atEndOfSubtransaction>
void watchTransactions()
{
    static bool const watching = [] {
        guarded([] {
            RegisterXactCallback(atEndOfTransaction, nullptr);
            RegisterSubXactCallback(atEndOfSubtransaction, nullptr);
        });
        return true;
    }();
    (void)watching;
}

// One transaction of a background worker with a snapshot and SPI; aborted
// unless commit() was reached. Nothing on the network is waited for within one.
class Transaction {
public:
    explicit Transaction(const char* activity);
    ~Transaction();

    // Keeps DROP EXTENSION away until the end; false when the extension is gone.
    bool lockExtension();
    // The commit waits for the disk and for synchronous standbys, however little
    // synchronous_commit asks for. For what must be known before a byte leaves.
    void commitDurably();
    void lockBriefly(); // waits for locks a tenth of the usual time
    void commit();
    // Handlers for SIGINT and SIGTERM. Both end what the open transaction does or
    // waits for (a lock, a standby, an app's trigger), and nothing else.
    static void onCancel(int signal);
    static void onShutdown(int signal);
    Transaction(const Transaction&) = delete;
    Transaction& operator=(const Transaction&) = delete;

private:
    Transaction() = default; // from here on, whatever fails, the destructor aborts
    void close();

    static volatile sig_atomic_t isOpen_;
    bool open_ = true;
};

// Writes an Error that a background worker survives to the server log.
void logError(const Error& error, const char* doing);

// The row that a function with OUT parameters returns. Inside guarded().
Datum toRow(FunctionCallInfo fcinfo, Datum* values, bool* nulls);

std::string_view viewOf(varlena* value); // as long as the value lives
// The text or bytea that SQL has passed, as long as the call lasts.
std::string_view argument(FunctionCallInfo fcinfo, int number);
std::string toString(text* value);
Datum toDatum(std::string_view value);
Datum toDatum(const pg_uuid_t& uuid);
std::optional<pg_uuid_t> parseUuid(const std::string& text); // nothing where it is none

} // namespace twilio::pg

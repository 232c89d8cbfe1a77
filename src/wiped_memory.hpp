// For libraries that hold secrets in memory which they free without wiping it.
#pragma once

#include <cstddef>

namespace twilio {

// free() and realloc() for curl, that wipe what they give back: others may take it before wipeFreedMemory() comes, and
// keep it long without writing to all of it. Except the largest pieces, those that curl reads answers into: whoever
// takes the answer out wipes that.
void freeWiped(void* memory) noexcept;
void* reallocateWiped(void* memory, std::size_t size) noexcept;

// While one lives, glibc overwrites what is freed, whoever frees it: for calls that may give back a secret, such as
// pgcrypto's. Costs a pass over every block, and glibc tidies its lists at both ends. For one thread.
class FreedMemoryOverwritten {
public:
    FreedMemoryOverwritten() noexcept;
    ~FreedMemoryOverwritten();
    FreedMemoryOverwritten(const FreedMemoryOverwritten&) = delete;
    FreedMemoryOverwritten& operator=(const FreedMemoryOverwritten&) = delete;

private:
    static inline int living_ = 0;
};

// Wipes whatever is free in the arena of this thread and in what the thread keeps for itself, whoever has freed it:
// OpenSSL and nghttp2 do not wipe what they give back. Takes some milliseconds, for a thread that has nothing else to
// do.
void wipeFreedMemory() noexcept;

// Wipes what calls that have returned left on the stack.
void wipeUnusedStack() noexcept;

} // namespace twilio

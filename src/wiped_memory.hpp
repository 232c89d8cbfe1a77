// For libraries that hold secrets in memory which they free without wiping it.
#pragma once

#include <cstddef>

namespace twilio {

// free() and realloc() that wipe what they give back: small pieces themselves, for glibc keeps these as they were;
// larger ones while a FreedMemoryOverwritten lives.
void freeWiped(void* memory) noexcept;
void* reallocateWiped(void* memory, std::size_t size) noexcept;

// While one lives, glibc overwrites what is freed, whoever frees it: OpenSSL and nghttp2 do not wipe what they give
// back. Costs a pass over every block, and glibc tidies its lists at both ends, so it is for the calls where a secret
// may be given back. Holds for all threads, of which one at a time may have it.
class FreedMemoryOverwritten {
public:
    FreedMemoryOverwritten() noexcept;
    ~FreedMemoryOverwritten();
    FreedMemoryOverwritten(const FreedMemoryOverwritten&) = delete;
    FreedMemoryOverwritten& operator=(const FreedMemoryOverwritten&) = delete;

private:
    static inline int living_ = 0;
};

// Wipes what this thread has freed in small pieces: glibc keeps it in a cache of its own, as it was.
void wipeFreedMemory() noexcept;

// Wipes what calls that have returned left on the stack.
void wipeUnusedStack() noexcept;

} // namespace twilio

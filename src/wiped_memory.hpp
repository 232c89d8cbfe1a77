// For libraries that hold secrets in memory which they free without wiping it.
#pragma once

#include <cstddef>

namespace twilio {

// free() and realloc() that wipe what they give back.
void freeWiped(void* memory) noexcept;
void* reallocateWiped(void* memory, std::size_t size) noexcept;

// Wipes what this thread has freed in small pieces: glibc keeps it in a cache of its own, as it was.
void wipeFreedMemory() noexcept;

// Wipes what calls that have returned left on the stack.
void wipeUnusedStack() noexcept;

} // namespace twilio

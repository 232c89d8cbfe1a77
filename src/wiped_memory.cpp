// Works on glibc's allocator: usable sizes, and a cache of at most 7 pieces of
// each size up to 1 kB per thread, which hands out first what came in last.
#include "wiped_memory.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include <malloc.h>

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

constexpr std::size_t largestCached = 1032;
constexpr std::size_t sizeStep = 16;
constexpr std::size_t piecesPerSize = 16;
constexpr std::size_t stackDepth = 64 * 1024;

} // namespace

FreedMemoryOverwritten::FreedMemoryOverwritten() noexcept
{
    if (living_++ == 0)
        ::mallopt(M_PERTURB, 0x5a);
}

FreedMemoryOverwritten::~FreedMemoryOverwritten()
{
    if (--living_ == 0)
        ::mallopt(M_PERTURB, 0);
}

void freeWiped(void* memory) noexcept
{
    if (memory != nullptr)
        if (const std::size_t size = ::malloc_usable_size(memory); size <= largestCached)
            ::explicit_bzero(memory, size);
    std::free(memory);
}

void* reallocateWiped(void* memory, std::size_t size) noexcept
{
    if (memory == nullptr)
        return std::malloc(size);
    const std::size_t before = ::malloc_usable_size(memory);
    if (size <= before && size > before / 2)
        return memory;
    void* const moved = std::malloc(size);
    if (moved != nullptr) {
        std::memcpy(moved, memory, std::min(before, size));
        freeWiped(memory);
    }
    return moved;
}

void wipeFreedMemory() noexcept
{
    for (std::size_t size = sizeStep + 8; size <= largestCached; size += sizeStep) {
        std::array<void*, piecesPerSize> pieces{};
        for (void*& piece : pieces)
            piece = std::malloc(size);
        for (void* piece : pieces)
            freeWiped(piece);
    }
}

[[gnu::noinline]] void wipeUnusedStack() noexcept
{
    std::array<char, stackDepth> unused;
    ::explicit_bzero(unused.data(), unused.size());
}

} // namespace twilio

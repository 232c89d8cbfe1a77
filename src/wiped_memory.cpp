// Works on glibc's allocator: usable sizes, and an arena that grows when nothing that is free in it is large enough.
#include "wiped_memory.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <malloc.h>

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

constexpr std::size_t largestPiece = 64 * 1024;      // less than what glibc would map apart
constexpr std::size_t largestCached = 1032;          // up to this, each thread keeps some pieces of each size to itself
constexpr std::size_t largestWiped = 32 * 1024 + 16; // when it is freed: curl's buffer of an HTTP/2 connection
constexpr std::size_t smallestPiece = 24;
constexpr std::size_t sizeStep = 16;
constexpr std::size_t roomToGrow = 16 * 1024 * 1024; // an arena may grow a little for each size
constexpr std::size_t looks = 16; // at whether the arena has grown; each passes over all that is free
constexpr std::size_t leastSideBySide = 4 * 1024;
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
        if (const std::size_t size = ::malloc_usable_size(memory); size <= largestWiped)
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

// Takes all that is free, in pieces that become smaller as nothing larger is left, and gives it back blank.
void wipeFreedMemory() noexcept
{
    struct Piece {
        Piece* next;
    };
    Piece* taken = nullptr;
    // Where malloc() is not glibc's (a sanitizer's, one that was preloaded), glibc knows of nothing free.
    const struct ::mallinfo2 heap = ::mallinfo2();
    std::size_t left = heap.fordblks + roomToGrow;
    const std::size_t lookEvery = std::min(left / looks, roomToGrow / 4) / largestPiece + 1;
    std::size_t mostSideBySide = 0; // more than that is nowhere free any more; not known at first
    for (std::size_t size = largestPiece; size >= smallestPiece;
         size = size > largestCached ? std::max(size / 2, largestCached) : size - sizeStep) {
        const char* end = nullptr;
        std::size_t sideBySide = 0;
        for (std::size_t n = 1; left >= size; n++) {
            auto* const piece = static_cast<Piece*>(std::malloc(size));
            if (piece == nullptr)
                break;
            const std::size_t usable = ::malloc_usable_size(piece);
            ::explicit_bzero(piece, usable);
            piece->next = taken;
            taken = piece;
            left -= size;
            // Nothing that was free is left, if the arena has grown, or if the pieces lie where no such place was left.
            sideBySide = reinterpret_cast<const char*>(piece) == end ? sideBySide + usable : usable;
            end = reinterpret_cast<const char*>(piece) + usable + sizeof(std::size_t);
            if (mostSideBySide == 0 ? n % lookEvery == 0 && ::mallinfo2().arena != heap.arena
                                    : sideBySide > mostSideBySide)
                break;
        }
        mostSideBySide = 2 * std::max(size, leastSideBySide);
    }
    while (taken != nullptr)
        std::free(std::exchange(taken, taken->next));
}

[[gnu::noinline]] void wipeUnusedStack() noexcept
{
    std::array<char, stackDepth> unused;
    ::explicit_bzero(unused.data(), unused.size());
}

} // namespace twilio

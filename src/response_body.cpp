#include "response_body.hpp"

#include <algorithm>
#include <new>
#include <utility>

#include "secret.hpp"

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

constexpr std::size_t firstCapacity = 4096;

} // namespace

bool ResponseBody::append(const char* bytes, std::size_t size, std::size_t announced)
{
    const std::size_t needed = text_.size() + size;
    if (needed > most_) {
        isTooLarge_ = true;
        return false;
    }
    if (needed > text_.capacity()) {
        // std::string would leave the smaller buffer as it is.
        try {
            std::string larger;
            larger.reserve(announced >= needed ? std::min(announced, most_)
                                               : std::max({needed, 2 * text_.capacity(), firstCapacity}));
            larger = text_;
            wipe(text_);
            text_.swap(larger);
        } catch (const std::bad_alloc&) {
            return false;
        }
    }
    text_.append(bytes, size);
    return true;
}

std::string ResponseBody::take()
{
    isTooLarge_ = false;
    return std::exchange(text_, {});
}

void ResponseBody::clear() noexcept
{
    isTooLarge_ = false;
    wipe(text_);
}

} // namespace twilio

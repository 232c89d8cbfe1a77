// What has come of an answer's body so far, up to a limit. It may hold a token: none of it is left in memory behind it.
#pragma once

#include <cstddef>
#include <string>

namespace twilio {

class ResponseBody {
public:
    explicit ResponseBody(std::size_t most) : most_(most) {} // bytes
    ResponseBody(const ResponseBody&) = delete;
    ResponseBody& operator=(const ResponseBody&) = delete;
    ~ResponseBody() { clear(); }

    // announced: the size that the answer says it has, if it does. False: it is more than the limit, or memory is
    // short.
    bool append(const char* bytes, std::size_t size, std::size_t announced);

    bool isTooLarge() const { return isTooLarge_; }

    std::string take(); // and be empty
    void clear() noexcept;

private:
    std::size_t most_;
    bool isTooLarge_ = false;
    std::string text_;
};

} // namespace twilio

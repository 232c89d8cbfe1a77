// Secret: a buffer for a token or a key, wiped before its memory is given back.
//
// It lives on the heap and never inside the object, so moving one leaves no
// copy behind. Copies are made by name (copy()), never by accident.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace twilio {

class Secret {
public:
    Secret() noexcept = default;

    // A buffer of `size` zero bytes, to be filled through data().
    explicit Secret(std::size_t size) : bytes_(size ? std::make_unique<char[]>(size) : nullptr), size_(size) {}

    explicit Secret(std::string_view bytes) : Secret(bytes.size())
    {
        if (size_ != 0)
            std::memcpy(bytes_.get(), bytes.data(), size_);
    }

    Secret(Secret&& other) noexcept : bytes_(std::move(other.bytes_)), size_(std::exchange(other.size_, 0)) {}

    Secret& operator=(Secret&& other) noexcept
    {
        if (this != &other) {
            wipe();
            bytes_ = std::move(other.bytes_);
            size_ = std::exchange(other.size_, 0);
        }
        return *this;
    }

    Secret(const Secret&) = delete;
    Secret& operator=(const Secret&) = delete;
    ~Secret() { wipe(); }

    Secret copy() const { return Secret(view()); }

    char* data() noexcept { return bytes_.get(); }
    const char* data() const noexcept { return bytes_.get(); }
    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }
    std::string_view view() const noexcept { return {bytes_.get(), size_}; }

    void wipe() noexcept
    {
        if (bytes_ != nullptr)
            ::explicit_bzero(bytes_.get(), size_);
        bytes_.reset();
        size_ = 0;
    }

private:
    std::unique_ptr<char[]> bytes_;
    std::size_t size_ = 0;
};

// A text that may hold one.
inline void wipe(std::string& text) noexcept
{
    ::explicit_bzero(text.data(), text.size());
    text.clear();
}

} // namespace twilio

// Whatever parses can be written and parsed again; whatever does not is a typed error.
#include <cstdint>
#include <cstdlib>

#include "key_ring.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    using namespace twilio;
    try {
        const KeyRing ring = parseKeyRing({reinterpret_cast<const char*>(data), size});
        std::string text;
        for (const Key& key : ring.keys())
            text += formatKey(key).view();
        const KeyRing again = parseKeyRing(text);
        for (const Key& key : ring.keys())
            if (again.find(key.id) == nullptr || again.find(key.id)->value.view() != key.value.view())
                std::abort();
    } catch (const KeyFileError& error) {
        if (error.kind() != KeyFileError::Kind::malformed)
            std::abort();
    }
    return 0;
}

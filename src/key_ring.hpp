// The key ring: the keys that seal secrets, and the file they live in.
//
// One line per key: `<key id> <base64 of 32 random bytes>`. The first seals, all
// open. Blank lines and lines that begin with # are skipped. The file must belong
// to us and be closed to everyone else (0600), or to root and be readable for our
// group at most (0640), as PostgreSQL wants it of ssl_key_file.
//
// No error ever tells what stands in the file. The files are handled in key_file.cpp.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "secret.hpp"

namespace twilio {

struct Key {
    std::string id;
    Secret value; // 32 bytes
};

class KeyRing {
public:
    static constexpr std::size_t keySize = 32;

    const Key& first() const { return keys_.front(); }
    const Key* find(std::string_view id) const;
    const std::vector<Key>& keys() const { return keys_; }
    bool empty() const { return keys_.empty(); }

    bool append(Key key); // false: that id is taken

private:
    std::vector<Key> keys_;
};

class KeyFileError : public std::runtime_error {
public:
    enum class Kind { missing, wrong_mode, wrong_owner, malformed, unreadable, unwritable };

    KeyFileError(Kind kind, const std::string& message, int line = 0)
        : std::runtime_error(message), kind_(kind), line_(line)
    {
    }
    Kind kind() const noexcept { return kind_; }
    int line() const noexcept { return line_; } // of malformed, from 1

private:
    Kind kind_;
    int line_;
};

// Throws malformed; an empty ring is malformed too (line 0).
KeyRing parseKeyRing(std::string_view text);

// The key's line, with its line end.
Secret formatKey(const Key& key);

// Throws. what() names the path and what is wrong with it.
KeyRing readKeyFile(const std::string& path);

// Creates it with one new key. False: there is one already (another process may have been faster).
bool createKeyFile(const std::string& path);

// Puts a new key first, atomically and safely against others who do the same, and returns its id. Comments stay.
std::string addKey(const std::string& path);

// 32 bytes of the kernel's randomness under a new id.
Key newKey();

} // namespace twilio

// The file with the certificates that are trusted: whether it was replaced, and
// under which name curl has to be told of it so that it is read anew.
//
// curl knows parsed certificates by the name of their file, and keeps them for
// an hour whatever becomes of it.
#pragma once

#include <cstdint>
#include <string>

#include <sys/types.h>

namespace twilio {

class CaFile {
public:
    CaFile() = default;
    explicit CaFile(std::string path); // empty: the bundle that libcurl was built with

    bool hasChanged() const { return look() != version_; } // since it was made

    // A name of the file that curl does not know from the generations before: dir/./name and so on.
    std::string alias(std::uint64_t generation) const;

private:
    struct Version {
        dev_t device = 0;
        ino_t number = 0;
        off_t size = 0;
        std::int64_t seconds = 0;
        std::int64_t nanoseconds = 0;

        bool operator==(const Version&) const = default;
    };

    Version look() const;

    std::string path_;
    Version version_;
};

} // namespace twilio

// Names of one file, and what stat() says of it.
#include "ca_file.hpp"

#include <curl/curl.h>
#include <sys/stat.h>

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

constexpr std::uint64_t aliases = 1000; // as many as fit into a path

} // namespace

CaFile::CaFile(std::string path) : path_(std::move(path))
{
    if (const char* const bundle = curl_version_info(CURLVERSION_NOW)->cainfo; path_.empty() && bundle != nullptr)
        path_ = bundle;
    version_ = look();
}

CaFile::Version CaFile::look() const
{
    struct stat found {};
    if (::stat(path_.c_str(), &found) != 0)
        return {};
    return {found.st_dev, found.st_ino, found.st_size, found.st_mtim.tv_sec, found.st_mtim.tv_nsec};
}

std::string CaFile::alias(std::uint64_t generation) const
{
    std::string name = path_;
    const std::size_t slash = name.rfind('/');
    const std::size_t last = slash == std::string::npos ? 0 : slash + 1;
    for (std::uint64_t i = (generation - 1) % aliases; i > 0; i--)
        name.insert(last, "./");
    return name;
}

} // namespace twilio

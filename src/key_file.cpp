// The key file on disk. It is replaced as a whole and never written in place, so
// that nobody ever reads half of it and a crash leaves the old one or the new.
//
// Losing a key loses the secrets under it: file and directory are synced before
// anyone may seal with a new key.
#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "key_ring.hpp"

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

using Kind = KeyFileError::Kind;

constexpr off_t largestFile = 1 << 20;
constexpr mode_t closedToOthers = S_IRWXG | S_IRWXO;
constexpr mode_t openToGroupAtMost = S_IWGRP | S_IXGRP | S_IRWXO;

[[noreturn]] void fail(Kind kind, const std::string& path, const std::string& what, int line = 0)
{
    throw KeyFileError(kind, "key file \"" + path + "\": " + what, line);
}

[[noreturn]] void failWithErrno(const std::string& path, const std::string& what)
{
    const int code = errno;
    fail(code == ENOENT ? Kind::missing : Kind::unwritable, path, what + ": " + std::strerror(code));
}

class File {
public:
    explicit File(int descriptor) : descriptor_(descriptor) {}
    File(File&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
    File& operator=(File&&) = delete;
    ~File()
    {
        if (descriptor_ >= 0)
            ::close(descriptor_);
    }
    int descriptor() const { return descriptor_; }
    bool isOpen() const { return descriptor_ >= 0; }

private:
    int descriptor_;
};

// Removes a new file that did not become the key file.
class Draft {
public:
    explicit Draft(std::string path) : path_(std::move(path)) { ::unlink(path_.c_str()); }
    Draft(const Draft&) = delete;
    Draft& operator=(const Draft&) = delete;
    ~Draft() { ::unlink(path_.c_str()); }
    const std::string& path() const { return path_; }

private:
    std::string path_;
};

void checkAccess(const std::string& path, const struct stat& status)
{
    if (!S_ISREG(status.st_mode))
        fail(Kind::unreadable, path, "it is not a regular file");
    const bool isOurs = status.st_uid == ::geteuid();
    if (!isOurs && status.st_uid != 0)
        fail(Kind::wrong_owner, path, "it must belong to the user that runs the server, or to root");
    if (isOurs && (status.st_mode & closedToOthers) != 0)
        fail(Kind::wrong_mode, path, "group and others have access to it; its mode must be 0600 or less");
    if (!isOurs && (status.st_mode & openToGroupAtMost) != 0)
        fail(Kind::wrong_mode, path, "it belongs to root, so its mode must be 0640 or less");
}

File openChecked(const std::string& path)
{
    // Not blocking, lest a FIFO in its place hang the server.
    File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file.isOpen()) {
        const int code = errno;
        fail(code == ENOENT ? Kind::missing : Kind::unreadable, path, std::strerror(code));
    }
    struct stat status {};
    if (::fstat(file.descriptor(), &status) != 0)
        fail(Kind::unreadable, path, std::strerror(errno));
    checkAccess(path, status);
    return file;
}

Secret readAll(const std::string& path, const File& file)
{
    struct stat status {};
    if (::fstat(file.descriptor(), &status) != 0)
        fail(Kind::unreadable, path, std::strerror(errno));
    if (status.st_size > largestFile)
        fail(Kind::malformed, path, "it is far too large");
    Secret buffer(static_cast<std::size_t>(status.st_size));
    std::size_t size = 0;
    while (size < buffer.size()) {
        const ssize_t got = ::read(file.descriptor(), buffer.data() + size, buffer.size() - size);
        if (got < 0 && errno != EINTR)
            fail(Kind::unreadable, path, std::strerror(errno));
        if (got == 0)
            break;
        size += got > 0 ? static_cast<std::size_t>(got) : 0;
    }
    return Secret(buffer.view().substr(0, size));
}

KeyRing parse(const std::string& path, std::string_view text)
{
    try {
        return parseKeyRing(text);
    } catch (const KeyFileError& error) {
        fail(error.kind(), path, error.what(), error.line());
    }
}

std::string directoryOf(const std::string& path)
{
    const std::size_t slash = path.rfind('/');
    return slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

void syncDirectory(const std::string& path)
{
    const File directory(::open(directoryOf(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory.isOpen() || ::fsync(directory.descriptor()) != 0)
        failWithErrno(path, "could not sync its directory");
}

void writeDraft(const std::string& path, const Draft& draft, std::string_view text)
{
    const File file(::open(draft.path().c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file.isOpen())
        failWithErrno(path, "could not create a file beside it");
    while (!text.empty()) {
        const ssize_t written = ::write(file.descriptor(), text.data(), text.size());
        if (written < 0 && errno != EINTR)
            failWithErrno(path, "could not write");
        text.remove_prefix(written > 0 ? static_cast<std::size_t>(written) : 0);
    }
    if (::fsync(file.descriptor()) != 0)
        failWithErrno(path, "could not sync");
}

std::string draftName(const std::string& path)
{
    return path + "." + std::to_string(::getpid()) + ".new";
}

// Opens the file and locks it against others who want to replace it. Who waited for the lock may hold a file that
// has been replaced meanwhile, and must look again.
File openLocked(const std::string& path)
{
    for (;;) {
        File file = openChecked(path);
        while (::flock(file.descriptor(), LOCK_EX) != 0)
            if (errno != EINTR)
                failWithErrno(path, "could not lock");
        struct stat locked {};
        struct stat current {};
        if (::fstat(file.descriptor(), &locked) == 0 && ::stat(path.c_str(), &current) == 0 &&
            locked.st_ino == current.st_ino && locked.st_dev == current.st_dev)
            return file;
    }
}

// Where a symbolic link leads: the file is replaced there, and the link stays.
std::string resolved(const std::string& path)
{
    char real[PATH_MAX];
    return ::realpath(path.c_str(), real) == nullptr ? path : std::string(real);
}

} // namespace

KeyRing readKeyFile(const std::string& path)
{
    const File file = openChecked(path);
    return parse(path, readAll(path, file).view());
}

bool createKeyFile(const std::string& path)
{
    const Draft draft(draftName(path));
    writeDraft(path, draft, formatKey(newKey()).view());
    // A hard link, because unlike a rename it fails where a file is already.
    if (::link(draft.path().c_str(), path.c_str()) != 0) {
        if (errno == EEXIST)
            return false;
        failWithErrno(path, "could not create");
    }
    syncDirectory(path);
    return true;
}

std::string addKey(const std::string& link)
{
    const std::string path = resolved(link);
    const File file = openLocked(path);
    const Secret before = readAll(path, file);
    const KeyRing ring = parse(path, before.view());
    Key key = newKey();
    while (ring.find(key.id) != nullptr)
        key = newKey();

    const Secret line = formatKey(key);
    Secret after(line.size() + before.size());
    std::memcpy(after.data(), line.data(), line.size());
    std::memcpy(after.data() + line.size(), before.data(), before.size());

    const Draft draft(draftName(path));
    writeDraft(path, draft, after.view());
    if (::rename(draft.path().c_str(), path.c_str()) != 0)
        failWithErrno(path, "could not replace");
    syncDirectory(path);
    return key.id;
}

} // namespace twilio

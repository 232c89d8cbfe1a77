#include "key_ring.hpp"

#include <cstdlib>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>
#include <thread>

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base64.hpp"

using namespace twilio;

namespace {

using Kind = KeyFileError::Kind;

const std::string value = encodeBase64(std::string(32, 'x'));

Kind kindOf(const std::function<void()>& action)
{
    try {
        action();
    } catch (const KeyFileError& error) {
        EXPECT_EQ(std::string(error.what()).find(value.substr(0, 8)), std::string::npos) << "it tells the content";
        return error.kind();
    }
    ADD_FAILURE() << "no error";
    return Kind::missing;
}

int lineOf(const std::string& text)
{
    try {
        parseKeyRing(text);
    } catch (const KeyFileError& error) {
        EXPECT_EQ(error.kind(), Kind::malformed);
        EXPECT_EQ(std::string(error.what()).find("secret"), std::string::npos) << "it tells the content";
        return error.line();
    }
    return -1;
}

class KeyFile : public testing::Test {
protected:
    KeyFile()
    {
        char name[] = "/tmp/pg_twilio_test.XXXXXX";
        directory_ = ::mkdtemp(name);
        path_ = directory_ + "/pg_twilio.key";
    }
    ~KeyFile() override { std::system(("rm -rf " + directory_).c_str()); }

    void write(const std::string& text, mode_t mode = 0600) const
    {
        std::ofstream(path_) << text;
        ::chmod(path_.c_str(), mode);
    }
    std::string read() const
    {
        std::ostringstream text;
        text << std::ifstream(path_).rdbuf();
        return text.str();
    }
    std::size_t filesInDirectory() const
    {
        std::size_t count = 0;
        FILE* list = ::popen(("ls -A " + directory_ + " | wc -l").c_str(), "r");
        EXPECT_EQ(std::fscanf(list, "%zu", &count), 1);
        ::pclose(list);
        return count;
    }

    std::string directory_;
    std::string path_;
};

} // namespace

TEST(KeyRing, readsKeysInOrder)
{
    const KeyRing ring = parseKeyRing("# keys\n\nnew " + value + "\r\n  old\t" + value + "  \n# end");
    ASSERT_EQ(ring.keys().size(), 2u);
    EXPECT_EQ(ring.first().id, "new");
    EXPECT_EQ(ring.first().value.view(), std::string(32, 'x'));
    EXPECT_NE(ring.find("old"), nullptr);
    EXPECT_EQ(ring.find("none"), nullptr);
}

TEST(KeyRing, namesTheBadLineAndNotItsContent)
{
    EXPECT_EQ(lineOf("a " + value + "\nsecret\n"), 2);
    EXPECT_EQ(lineOf("a " + value + "\n\n#\nb secret==\n"), 4);
    EXPECT_EQ(lineOf("a " + value.substr(4)), 1);
    EXPECT_EQ(lineOf("a " + encodeBase64(std::string(33, 'x'))), 1);
    EXPECT_EQ(lineOf("a " + value + " more"), 1);
    EXPECT_EQ(lineOf("a'b " + value), 1);
    EXPECT_EQ(lineOf(std::string(65, 'a') + " " + value), 1);
    EXPECT_EQ(lineOf("a " + value + "\nb " + value + "\na " + value), 3);
    EXPECT_EQ(lineOf(""), 0);
    EXPECT_EQ(lineOf("# nothing\n"), 0);
}

TEST(KeyRing, readsWhatItFormats)
{
    const Key key = newKey();
    const KeyRing ring = parseKeyRing(formatKey(key).view());
    EXPECT_EQ(ring.first().id, key.id);
    EXPECT_EQ(ring.first().value.view(), key.value.view());
}

TEST(KeyRing, makesNewKeysEachTime)
{
    std::set<std::string> seen;
    for (int i = 0; i < 100; i++) {
        const Key key = newKey();
        EXPECT_EQ(key.value.size(), KeyRing::keySize);
        seen.insert(key.id);
        seen.insert(std::string(key.value.view()));
    }
    EXPECT_EQ(seen.size(), 200u);
}

TEST_F(KeyFile, isCreatedOnceAndClosedToOthers)
{
    EXPECT_TRUE(createKeyFile(path_));
    struct stat status {};
    ASSERT_EQ(::stat(path_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0600u);
    const std::string before = read();
    EXPECT_FALSE(createKeyFile(path_));
    EXPECT_EQ(read(), before);
    EXPECT_EQ(filesInDirectory(), 1u);
    EXPECT_EQ(readKeyFile(path_).keys().size(), 1u);
}

TEST_F(KeyFile, refusesAWrongMode)
{
    for (const mode_t mode : {0640, 0604, 0610, 0660, 0666, 0644}) {
        write("a " + value + "\n", mode);
        EXPECT_EQ(kindOf([&] { readKeyFile(path_); }), Kind::wrong_mode) << mode;
    }
    for (const mode_t mode : {0600, 0400, 0700}) {
        write("a " + value + "\n", 0600);
        ::chmod(path_.c_str(), mode);
        EXPECT_EQ(readKeyFile(path_).first().id, "a") << mode;
        ::chmod(path_.c_str(), 0600);
    }
}

TEST_F(KeyFile, refusesAnotherOwner)
{
    write("a " + value + "\n");
    if (::chown(path_.c_str(), 12345, 12345) != 0)
        GTEST_SKIP() << "only root can give files away";
    EXPECT_EQ(kindOf([&] { readKeyFile(path_); }), Kind::wrong_owner);
}

TEST_F(KeyFile, ofRootMayBeReadByItsGroupAlone)
{
    constexpr id_t somebody = 12345;
    write("a " + value + "\n");
    if (::chown(path_.c_str(), 0, somebody) != 0)
        GTEST_SKIP() << "only root can be somebody else for a while";
    ASSERT_EQ(::chmod(directory_.c_str(), 0755), 0);
    const auto readBySomebody = [&](mode_t mode) {
        ::chmod(path_.c_str(), mode);
        EXPECT_EQ(::setegid(somebody) | ::seteuid(somebody), 0);
        try {
            readKeyFile(path_);
        } catch (...) {
            EXPECT_EQ(::seteuid(0) | ::setegid(0), 0);
            throw;
        }
        EXPECT_EQ(::seteuid(0) | ::setegid(0), 0);
    };
    EXPECT_NO_THROW(readBySomebody(0640));
    for (const mode_t mode : {0644, 0660, 0650})
        EXPECT_EQ(kindOf([&] { readBySomebody(mode); }), Kind::wrong_mode) << mode;
}

TEST_F(KeyFile, tellsWhatIsWrong)
{
    EXPECT_EQ(kindOf([&] { readKeyFile(path_); }), Kind::missing);
    EXPECT_EQ(kindOf([&] { addKey(path_); }), Kind::missing);
    EXPECT_EQ(kindOf([&] { readKeyFile(directory_); }), Kind::unreadable);
    EXPECT_EQ(kindOf([&] { createKeyFile(directory_ + "/none/key"); }), Kind::missing);
    write("a " + value + "\nb " + value.substr(1) + "\n");
    EXPECT_EQ(kindOf([&] { readKeyFile(path_); }), Kind::malformed);
    EXPECT_EQ(kindOf([&] { addKey(path_); }), Kind::malformed);
    write(std::string((1 << 20) + 1, '\n'));
    EXPECT_EQ(kindOf([&] { readKeyFile(path_); }), Kind::malformed);
    write("");
    EXPECT_EQ(kindOf([&] { readKeyFile(path_); }), Kind::malformed);
    ::unlink(path_.c_str());
    ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
    EXPECT_EQ(kindOf([&] { readKeyFile(path_); }), Kind::unreadable);
}

TEST_F(KeyFile, takesANewKeyFirstAndKeepsTheRest)
{
    write("# ours\nold " + value + "\n");
    const std::string id = addKey(path_);
    const KeyRing ring = readKeyFile(path_);
    EXPECT_EQ(ring.first().id, id);
    EXPECT_NE(ring.find("old"), nullptr);
    EXPECT_NE(read().find("# ours\n"), std::string::npos);
    EXPECT_EQ(filesInDirectory(), 1u);
}

TEST_F(KeyFile, isReplacedBehindASymbolicLink)
{
    write("old " + value + "\n");
    const std::string link = directory_ + "/link";
    ASSERT_EQ(::symlink(path_.c_str(), link.c_str()), 0);
    const std::string id = addKey(link);
    EXPECT_EQ(readKeyFile(path_).first().id, id);
    EXPECT_EQ(readKeyFile(link).first().id, id);
}

TEST_F(KeyFile, losesNoKeyWhenManyAddAtOnce)
{
    write("old " + value + "\n");
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; i++)
        threads.emplace_back([&] {
            if (const pid_t child = ::fork(); child == 0) {
                for (int n = 0; n < 5; n++)
                    addKey(path_);
                ::_exit(0);
            } else {
                int status = -1;
                ::waitpid(child, &status, 0);
                EXPECT_EQ(status, 0);
            }
        });
    for (std::thread& thread : threads)
        thread.join();
    EXPECT_EQ(readKeyFile(path_).keys().size(), 41u);
}

TEST(Secret, isWipedAndMovedNotCopied)
{
    Secret secret(std::string_view("token"));
    const char* bytes = secret.data();
    Secret moved = std::move(secret);
    EXPECT_EQ(moved.data(), bytes);
    EXPECT_TRUE(secret.empty());
    const Secret copy = moved.copy();
    EXPECT_EQ(copy.view(), "token");
    moved.wipe();
    EXPECT_TRUE(moved.empty());
    static_assert(!std::is_copy_constructible_v<Secret>);
}

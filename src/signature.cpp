// HMAC-SHA1 as the SDK builds it, down to its order of names: JavaScript sorts
// by UTF-16 code units, where U+10000 and above come before U+E000 to U+FFFF.
#include "signature.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <stdexcept>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base64.hpp"

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio {

namespace {

// UTF-8 sorts by code point. The lead bytes of U+E000 to U+FFFF (EE and EF) must come after those of U+10000 and
// above (F0 to F4) to sort by UTF-16 code unit.
int rank(char letter)
{
    const int byte = static_cast<unsigned char>(letter);
    if (byte == 0xEE || byte == 0xEF)
        return byte + 5;
    return byte >= 0xF0 && byte <= 0xF4 ? byte - 2 : byte;
}

bool precedes(std::string_view left, std::string_view right)
{
    return std::lexicographical_compare(left.begin(), left.end(), right.begin(), right.end(),
                                        [](char a, char b) { return rank(a) < rank(b); });
}

// Names in order, the values of one name in order, each pair once: one after the other without separators.
std::string canonical(const Parameters& parameters)
{
    std::vector<const Parameters::value_type*> pairs;
    pairs.reserve(parameters.size());
    std::transform(parameters.begin(), parameters.end(), std::back_inserter(pairs),
                   [](const auto& pair) { return &pair; });
    std::sort(pairs.begin(), pairs.end(), [](const auto* left, const auto* right) {
        return left->first == right->first ? precedes(left->second, right->second)
                                           : precedes(left->first, right->first);
    });
    const auto end =
        std::unique(pairs.begin(), pairs.end(), [](const auto* left, const auto* right) { return *left == *right; });

    std::string text;
    std::for_each(pairs.begin(), end, [&](const auto* pair) { text.append(pair->first).append(pair->second); });
    return text;
}

using Hash = EVP_MD_CTX*;

void check(bool done)
{
    if (!done)
        throw std::runtime_error("SHA-1 is not available");
}

struct Digest {
    std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
    unsigned int size = 0;
};

// The hash of what went into `begun` and of `more` behind it.
Digest finish(Hash begun, std::string_view more)
{
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> hash(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    Digest digest;
    check(hash != nullptr && EVP_MD_CTX_copy_ex(hash.get(), begun) == 1 &&
          EVP_DigestUpdate(hash.get(), more.data(), more.size()) == 1 &&
          EVP_DigestFinal_ex(hash.get(), digest.bytes.data(), &digest.size) == 1);
    return digest;
}

bool isSame(std::string_view left, std::string_view right)
{
    return left.size() == right.size() && CRYPTO_memcmp(left.data(), right.data(), left.size()) == 0;
}

// A URL around its port.
struct SplitUrl {
    std::string_view beforePort;
    std::string_view port; // with its colon
    std::string_view afterPort;
    bool isHttps = false;

    explicit SplitUrl(std::string_view url)
    {
        const std::size_t schemeEnd = url.find("://");
        if (schemeEnd == url.npos) {
            beforePort = url;
            return;
        }
        isHttps = url.substr(0, schemeEnd) == "https";
        const std::size_t begin = schemeEnd + 3;
        const std::size_t end = std::min(url.find_first_of("/?#", begin), url.size());
        const std::string_view authority = url.substr(begin, end - begin);

        // The colons of user:password and of an IPv6 address are none of a port.
        const std::size_t user = authority.rfind('@');
        const std::size_t host = user == authority.npos ? 0 : user + 1;
        const std::size_t bracket = authority.rfind(']');
        const std::size_t colon = authority.find(':', bracket == authority.npos ? host : std::max(host, bracket));
        const std::size_t hostEnd = begin + std::min(colon, authority.size());

        beforePort = url.substr(0, hostEnd);
        port = url.substr(hostEnd, end - hostEnd);
        afterPort = url.substr(end);
    }

    std::string with(std::string_view otherPort) const
    {
        return std::string(beforePort).append(otherPort).append(afterPort);
    }
};

} // namespace

void SigningKey::Freed::operator()(evp_md_ctx_st* hash) const noexcept
{
    EVP_MD_CTX_free(hash);
}

// RFC 2104. A whole block goes straight into the state of a hash, which keeps no copy of it.
SigningKey::SigningKey(std::string_view token) : inner_(EVP_MD_CTX_new()), outer_(EVP_MD_CTX_new())
{
    std::array<unsigned char, 64> block{};
    const auto begin = [&block](Hash hash, unsigned char pad) {
        for (unsigned char& byte : block)
            byte ^= pad;
        return hash != nullptr && EVP_DigestInit_ex(hash, EVP_sha1(), nullptr) == 1 &&
               EVP_DigestUpdate(hash, block.data(), block.size()) == 1;
    };
    bool done = true;
    if (token.size() > block.size())
        done = EVP_Digest(token.data(), token.size(), block.data(), nullptr, EVP_sha1(), nullptr) == 1;
    else
        std::copy(token.begin(), token.end(), block.begin());
    done = done && begin(inner_.get(), 0x36) && begin(outer_.get(), 0x36 ^ 0x5c);
    OPENSSL_cleanse(block.data(), block.size());
    check(done);
}

std::string SigningKey::mac(std::string_view text) const
{
    const Digest inner = finish(inner_.get(), text);
    const Digest outer = finish(outer_.get(), {reinterpret_cast<const char*>(inner.bytes.data()), inner.size});
    return encodeBase64({reinterpret_cast<const char*>(outer.bytes.data()), outer.size});
}

std::string sign(const SigningKey& key, std::string_view url, const Parameters& parameters)
{
    return key.mac(std::string(url) + canonical(parameters));
}

bool validSignature(const SigningKey& key, std::string_view url, const Parameters& parameters,
                    std::string_view signature)
{
    const SplitUrl parts(url);
    const std::string_view port = !parts.port.empty() ? parts.port : parts.isHttps ? ":443" : ":80";
    const std::string text = canonical(parameters);
    const bool fitsWithout = isSame(key.mac(parts.with("") + text), signature);
    const bool fitsWith = isSame(key.mac(parts.with(port) + text), signature);
    return fitsWithout || fitsWith;
}

std::optional<std::string> bodyHash(std::string_view url)
{
    url = url.substr(0, url.find('#'));
    const std::size_t query = url.find('?');
    if (query == url.npos)
        return std::nullopt;
    const Parameters parameters = decodeForm(url.substr(query + 1));
    const std::string* hash = findParameter(parameters, "bodySHA256");
    return hash == nullptr ? std::nullopt : std::optional(*hash);
}

bool validBodyHash(std::string_view hash, std::string_view body)
{
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int size = 0;
    if (EVP_Digest(body.data(), body.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1)
        throw std::runtime_error("SHA-256 is not available");
    std::string hex;
    for (unsigned int i = 0; i < size; i++) {
        hex += "0123456789abcdef"[digest[i] >> 4];
        hex += "0123456789abcdef"[digest[i] & 15];
    }
    return isSame(hex, hash);
}

bool validWebhook(const SigningKey& key, const Webhook& webhook, std::string_view signature)
{
    if (const auto hash = bodyHash(webhook.url))
        return validBodyHash(*hash, webhook.body) && validSignature(key, webhook.url, {}, signature);
    const bool isCovered = webhook.body.empty() || !webhook.parameters.empty();
    return isCovered && validSignature(key, webhook.url, webhook.parameters, signature);
}

} // namespace twilio

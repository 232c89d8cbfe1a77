// The vectors were computed with Twilio's official SDK for Node.
#include "signature.hpp"

#include <gtest/gtest.h>

using namespace twilio;

namespace {

const SigningKey token("12345678901234567890123456789012");
const SigningKey otherToken("x2345678901234567890123456789012");

struct Vector {
    const char* name;
    std::string url;
    Parameters parameters;
    std::string signature;
};

const Parameters sms = {{"Body", "Hi + there"},
                        {"From", "+15551230001"},
                        {"To", "+15551230002"},
                        {"MessageSid", "SM00000000000000000000000000000001"},
                        {"AccountSid", "AC00000000000000000000000000000001"},
                        {"NumMedia", "0"}};

const std::string json = R"({"port_in_request_sid":"KW00000000000000000000000000000001","status":"completed"})";
const std::string jsonHash = "2e6334a1a8a4797469c5aba4b3c6462e07ca11978eeb39f807f89b3c047762d7";
const std::string jsonUrl = "https://example.com/hooks/port?bodySHA256=" + jsonHash;
const std::string jsonSignature = "7do0rJu/AqYa1LNJKt/n56MykzA=";

const std::vector<Vector> vectors = {
    {"form", "https://example.com/hooks/sms?a=1&b=two", sms, "7UfE9xs/dOk7EvzG8ZcO2nOWo38="},
    {"form with a port", "https://example.com:443/hooks/sms?a=1&b=two", sms, "F2G/GIc3tlfTkHOlNWrWv54Unlo="},
    {"JSON", jsonUrl, {}, jsonSignature},
    {"repeated", "https://example.com/x", {{"E", "b"}, {"E", "a"}, {"E", "a"}}, "nbz2I9A+fITweB2sVh8bqGLWmJY="},
    {"GET", "https://example.com/x?From=%2B1555&To=%2B1666", {}, "YLTD7ixmPLMhfF0UxuW+c3pk/3o="},
    {"empty value", "https://example.com/x", {{"ToZip", ""}, {"A", "1"}}, "v5JSwxyjSOpWAz3aWUJEO0raJRE="},
    {"UTF-8", "https://example.com/x", {{"Body", "\xC3\xA9\xF0\x9F\x91\x8D"}}, "TV0bwzN7yf9Z9hZZ1BJwdJujtg8="},
    {"special characters in the URL",
     "https://example.com/it's@home/a:b?q='x'&y=%27",
     {{"A", "1"}},
     "HdpyhlaJR9XBnZ4XTH6wnYeQfFs="},
    {"user and password", "https://user:pass@example.com/x?m=1", {{"A", "1"}}, "Rii2B3Lx22qCFacn1yNnKIhylDQ="},
    {"IPv6 host", "https://[::1]/x", {{"A", "1"}}, "tLG5nMuOIxwa0V/W/qtflbeWAD4="},
    {"names beyond U+FFFF come before U+E000",
     "https://example.com/x",
     {{"\xEE\x80\x80", "p"}, {"\xF0\x9F\x91\x8D", "t"}, {"z", "z"}, {"\xEF\xBF\xBD", "r"}},
     "LhZ+Gpn2Iegshi6XtbrDJEHNoOM="},
    {"values beyond U+FFFF come before U+E000",
     "https://example.com/x",
     {{"E", "\xEF\xBF\xBD"}, {"E", "\xF0\x9F\x91\x8D"}, {"E", "\xC3\xA9"}},
     "uqilt3uP42JGAiIb9GxSSgDvZSs="},
    {"upper case before lower",
     "https://example.com/x",
     {{"b", "1"}, {"B", "2"}, {"a", "3"}, {"A", "4"}, {"_", "5"}, {"1", "6"}, {"10", "7"}, {"2", "8"}},
     "0cXIw9ad7lLmQ6BAFL117psbt/U="},
    {"names that begin alike",
     "https://example.com/x",
     {{"MediaUrl1", "b"}, {"MediaUrl10", "c"}, {"MediaUrl0", "a"}, {"MediaUrl", "d"}},
     "pIBd1nao7NeX5+kSjEItVrPuGgY="},
    {"no parameters", "https://example.com/x", {}, "qE2CAEAXoH8Ka/9a1iD0BLWz3Dk="},
    {"http", "http://example.com/x?a=b", {{"A", "1"}}, "Ls/UU0/XF5FdgaOXVGLtMdml4PM="},
    {"control characters and quotes",
     "https://example.com/x",
     {{"Body", "a\r\nb\t\"'&=+%00 \x01"}},
     "Ram+q55Rw5sKNhQV64JKDgJHPrw="},
    {"many repeated",
     "https://example.com/x",
     {{"E", "10"}, {"E", "9"}, {"E", "1"}, {"E", "9"}, {"E", ""}, {"E", "10"}},
     "bUyptUhgPFMrxvueGdjN6bzylcQ="},
};

std::string replaced(std::string text, const std::string& from, const std::string& to)
{
    return text.replace(text.find(from), from.size(), to);
}

} // namespace

TEST(SigningKey, isOfAnyLength) // the second as RFC 2202 has it
{
    const std::string text = "Test Using Larger Than Block-Size Key - Hash Key First";
    EXPECT_EQ(SigningKey(std::string(64, '\xaa')).mac(text), "BwqYmSxMGoNHTLeA/FZGCN889QM=");
    EXPECT_EQ(SigningKey(std::string(80, '\xaa')).mac(text), "qkrl4VJy0A6VcFY3zoo7Ve1AIRI=");
    EXPECT_EQ(SigningKey("").mac(text), "BhtEK72arGjhrIEe3YyoPQWGx2Y=");
}

TEST(Signature, isTheOneOfTheSdk)
{
    for (const Vector& vector : vectors) {
        EXPECT_EQ(sign(token, vector.url, vector.parameters), vector.signature) << vector.name;
        EXPECT_TRUE(validSignature(token, vector.url, vector.parameters, vector.signature)) << vector.name;
    }
}

TEST(Signature, doesNotDependOnTheOrderOfParameters)
{
    for (const Vector& vector : vectors) {
        Parameters reversed(vector.parameters.rbegin(), vector.parameters.rend());
        EXPECT_EQ(sign(token, vector.url, reversed), vector.signature) << vector.name;
    }
}

TEST(Signature, fitsWithAndWithoutThePort)
{
    const std::string bare = vectors[0].url;
    const std::string withPort = vectors[1].url;
    for (const std::string& signature : {vectors[0].signature, vectors[1].signature})
        for (const std::string& url : {bare, withPort})
            EXPECT_TRUE(validSignature(token, url, sms, signature)) << url;

    const std::string odd = "https://example.com:8443/x";
    EXPECT_TRUE(validSignature(token, odd, sms, sign(token, "https://example.com/x", sms)));
    EXPECT_TRUE(validSignature(token, odd, sms, sign(token, odd, sms)));
    EXPECT_FALSE(validSignature(token, odd, sms, sign(token, "https://example.com:443/x", sms)));
    EXPECT_FALSE(validSignature(token, "https://example.com/x", sms, sign(token, odd, sms)));

    EXPECT_TRUE(validSignature(token, "http://example.com/x", sms, sign(token, "http://example.com:80/x", sms)));
    EXPECT_TRUE(validSignature(token, "https://[::1]/x", sms, sign(token, "https://[::1]:443/x", sms)));
    EXPECT_TRUE(validSignature(token, "https://u:p@a.b/x", sms, sign(token, "https://u:p@a.b:443/x", sms)));
    EXPECT_TRUE(validSignature(token, "https://a.b?c=d:1", sms, sign(token, "https://a.b:443?c=d:1", sms)));
}

TEST(Signature, failsOnAnyChange)
{
    for (const Vector& vector : vectors) {
        for (std::size_t i = 0; i < vector.signature.size(); i++) {
            std::string other = vector.signature;
            other[i] = static_cast<char>(other[i] ^ 1);
            EXPECT_FALSE(validSignature(token, vector.url, vector.parameters, other)) << vector.name;
        }
        for (std::size_t i = 0; i < vector.url.size(); i++) {
            std::string other = vector.url;
            other[i] = static_cast<char>(other[i] ^ 1);
            EXPECT_FALSE(validSignature(token, other, vector.parameters, vector.signature)) << vector.name << i;
        }
        for (std::size_t i = 0; i < vector.parameters.size(); i++) {
            Parameters other = vector.parameters;
            other[i].second += "x";
            EXPECT_FALSE(validSignature(token, vector.url, other, vector.signature)) << vector.name;
            other = vector.parameters;
            other[i].first += "x";
            EXPECT_FALSE(validSignature(token, vector.url, other, vector.signature)) << vector.name;
        }
        EXPECT_FALSE(validSignature(otherToken, vector.url, vector.parameters, vector.signature));
        EXPECT_FALSE(validSignature(token, vector.url, vector.parameters, ""));
        EXPECT_FALSE(validSignature(token, vector.url, vector.parameters, vector.signature + "x"));
    }
}

TEST(Signature, coversInvalidUtf8AsBytes)
{
    const Parameters one = {{"Body", "\xFF\xFE"}};
    const Parameters other = {{"Body", "\xFF\xFD"}};
    EXPECT_NE(sign(token, "https://example.com/x", one), sign(token, "https://example.com/x", other));
}

TEST(BodyHash, isReadFromTheQuery)
{
    EXPECT_EQ(bodyHash(jsonUrl), jsonHash);
    EXPECT_EQ(bodyHash("https://a.b/x?m=1&bodySHA256=abc&z=2"), "abc");
    EXPECT_EQ(bodyHash("https://a.b/bodySHA256=abc"), std::nullopt);
    EXPECT_EQ(bodyHash("https://a.b/x?m=1#?bodySHA256=abc"), std::nullopt);
    EXPECT_EQ(bodyHash("https://a.b/x?xbodySHA256=abc"), std::nullopt);
}

TEST(BodyHash, mustBeExact)
{
    EXPECT_TRUE(validBodyHash(jsonHash, json));
    EXPECT_FALSE(validBodyHash(jsonHash, json + " "));
    EXPECT_FALSE(validBodyHash(replaced(jsonHash, "e", "E"), json));
    EXPECT_FALSE(validBodyHash("", json));
}

TEST(Webhook, formIsValid)
{
    const std::string body = encodeForm(sms);
    const Parameters parameters = decodeForm(body);
    EXPECT_TRUE(validWebhook(token, {vectors[0].url, body, parameters}, vectors[0].signature));
    const Parameters changed = decodeForm(body + "&x=1");
    EXPECT_FALSE(validWebhook(token, {vectors[0].url, body, changed}, vectors[0].signature));
}

TEST(Webhook, jsonIsValidByItsHash)
{
    EXPECT_TRUE(validWebhook(token, {jsonUrl, json, {}}, jsonSignature));
    EXPECT_FALSE(validWebhook(token, {jsonUrl, json + " ", {}}, jsonSignature));
    EXPECT_FALSE(validWebhook(token, {replaced(jsonUrl, "2e63", "2e64"), json, {}}, jsonSignature));
}

TEST(Webhook, getIsValid)
{
    EXPECT_TRUE(validWebhook(token, {vectors[4].url, "", {}}, vectors[4].signature));
}

TEST(Webhook, bodyThatNothingCoversIsRefused)
{
    EXPECT_FALSE(validWebhook(token, {vectors[4].url, json, {}}, vectors[4].signature));
}

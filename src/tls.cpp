#include "tls.hpp"

#include <cstring>
#include <string_view>

#include <openssl/ssl.h>

#ifdef POSTGRES_H
#error pure C++: nothing included here may lead to Postgres
#endif

namespace twilio::tls {

namespace {

bool usesOpenSsl()
{
    const char* library = curl_version_info(CURLVERSION_NOW)->ssl_version;
    return library != nullptr && std::strstr(library, "OpenSSL") != nullptr;
}

SSL* sessionOf(CURL* easy)
{
    const curl_tlssessioninfo* session = nullptr;
    if (curl_easy_getinfo(easy, CURLINFO_TLS_SSL_PTR, &session) != CURLE_OK ||
        session->backend != CURLSSLBACKEND_OPENSSL)
        return nullptr;
    return static_cast<SSL*>(session->internals);
}

// OpenSSL leaves what it decrypted in its buffer, unless told to wipe it.
CURLcode onContext(CURL*, void* context, void*) noexcept
{
    SSL_CTX_set_options(static_cast<SSL_CTX*>(context), SSL_OP_CLEANSE_PLAINTEXT);
    return CURLE_OK;
}

} // namespace

const void* connectionOf(CURL* easy)
{
    return sessionOf(easy);
}

bool isHttp2(CURL* easy)
{
    const SSL* const session = sessionOf(easy);
    if (session == nullptr)
        return false;
    const unsigned char* protocol = nullptr;
    unsigned int length = 0;
    SSL_get0_alpn_selected(session, &protocol, &length);
    return std::string_view(reinterpret_cast<const char*>(protocol), length) == "h2";
}

void keepBuffers(CURL* easy)
{
    if (SSL* const session = sessionOf(easy); session != nullptr)
        SSL_clear_mode(session, SSL_MODE_RELEASE_BUFFERS);
}

bool wipeWhatWasRead(CURL* easy)
{
    return !usesOpenSsl() || curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, onContext) == CURLE_OK;
}

} // namespace twilio::tls

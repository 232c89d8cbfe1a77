// A certificate authority made for one test run, and certificates that it signs.
#pragma once

#include <memory>
#include <string>

#include <openssl/evp.h>
#include <openssl/x509.h>

namespace twilio::test {

struct KeyFree {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
struct CertificateFree {
    void operator()(X509* certificate) const { X509_free(certificate); }
};
using KeyPtr = std::unique_ptr<EVP_PKEY, KeyFree>;
using CertificatePtr = std::unique_ptr<X509, CertificateFree>;

struct Identity {
    KeyPtr key;
    CertificatePtr certificate;
};

class Authority {
public:
    explicit Authority(const std::string& name);
    ~Authority();
    Authority(const Authority&) = delete;
    Authority& operator=(const Authority&) = delete;

    // `names` as OpenSSL writes them: "DNS:a.b,IP:127.0.0.1".
    Identity issue(const std::string& names) const;

    const std::string& file() const { return file_; } // the authority's certificate in PEM

private:
    Identity own_;
    std::string file_;
};

} // namespace twilio::test

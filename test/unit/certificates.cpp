#include "certificates.hpp"

#include <cstdio>
#include <stdexcept>

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <unistd.h>

namespace twilio::test {

namespace {

constexpr long oneDay = 24 * 60 * 60;

void check(bool ok, const char* what)
{
    if (!ok)
        throw std::runtime_error(what);
}

void addExtension(X509* certificate, int which, const std::string& value)
{
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, which, value.c_str());
    check(extension != nullptr, "extension");
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
}

Identity make(const std::string& name, const Identity* signer, const std::string& names)
{
    static long serial = 1;
    Identity identity{KeyPtr(EVP_EC_gen("P-256")), CertificatePtr(X509_new())};
    check(identity.key && identity.certificate, "new certificate");
    X509* const certificate = identity.certificate.get();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -oneDay);
    X509_gmtime_adj(X509_getm_notAfter(certificate), oneDay);
    X509_set_pubkey(certificate, identity.key.get());
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
    const Identity& issuer = signer != nullptr ? *signer : identity;
    X509_set_issuer_name(certificate, X509_get_subject_name(issuer.certificate.get()));
    if (signer == nullptr) {
        addExtension(certificate, NID_basic_constraints, "critical,CA:TRUE");
        addExtension(certificate, NID_key_usage, "critical,keyCertSign,cRLSign");
    } else {
        addExtension(certificate, NID_subject_alt_name, names);
    }
    check(X509_sign(certificate, issuer.key.get(), EVP_sha256()) > 0, "signing");
    return identity;
}

} // namespace

Authority::Authority(const std::string& name) : own_(make(name, nullptr, ""))
{
    char path[] = "/tmp/pg_twilio_ca.XXXXXX";
    const int descriptor = ::mkstemp(path);
    check(descriptor >= 0, "mkstemp");
    FILE* file = ::fdopen(descriptor, "w");
    PEM_write_X509(file, own_.certificate.get());
    std::fclose(file);
    file_ = path;
}

Authority::~Authority()
{
    ::unlink(file_.c_str());
}

Identity Authority::issue(const std::string& names) const
{
    return make("server", &own_, names);
}

} // namespace twilio::test

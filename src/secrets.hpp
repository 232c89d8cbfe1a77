// Sealing and opening of credentials.
//
// A sealed value is pgcrypto's pgp_sym_encrypt_bytea over (owner, kind, secret),
// with a key of the key ring as its passphrase. pgcrypto is called through fmgr,
// never through SQL, so that no statement carries a key or a token. The owner is
// inside the seal: a value moved to another row does not open.
#pragma once

#include "guard.hpp"
#include "key_ring.hpp"

namespace twilio::secrets {

struct Sealed {
    std::string keyId;
    std::string bytes;
};

struct Owner {
    pg_uuid_t user;
    std::string_view kind; // auth_token, api_key_secret
};

// Both need a transaction, and throw Failure (PT409 …) that names the key file,
// the key id or the owner, never a secret.
Sealed seal(const Owner& owner, const Secret& secret);
Secret open(const Owner& owner, std::string_view keyId, std::string_view sealed);

// A name of a sealed value that no other one has, whoever owns it.
std::string nameOf(const Owner& owner, std::string_view keyId, std::string_view sealed);

// The ring as it stands in the file now; throws Failure naming the file.
KeyRing keyRing();
std::string addKeyToFile();

// Opened credentials of a worker, kept only while it is busy.
class Cache {
public:
    const Secret* find(const Owner& owner, std::string_view keyId,
                       std::string_view sealed) const; // null: open() it, in a transaction
    const Secret& open(const Owner& owner, std::string_view keyId, std::string_view sealed);
    void wipe() { opened_.clear(); }

private:
    std::unordered_map<std::string, Secret> opened_; // by owner and sealed value
};

} // namespace twilio::secrets

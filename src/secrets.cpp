// pgcrypto through fmgr, and the key ring file.
#include "secrets.hpp"

#include "base64.hpp"
#include "settings.hpp"
#include "shared.hpp"
#include "wiped_memory.hpp"

namespace twilio::secrets {

namespace {

using pg::Failure;

constexpr const char* sealOptions = "cipher-algo=aes256, s2k-mode=1, compress-algo=0";
constexpr std::size_t maxSecret = 4096;

Oid encryptFunction = InvalidOid;
Oid decryptFunction = InvalidOid;

// Finds a function of pgcrypto that belongs to that extension and to nobody else.
Oid pgcryptoFunction(const char* name, int arguments)
{
    Oid const types[] = {BYTEAOID, TEXTOID, TEXTOID};
    Oid const extension = get_extension_oid("pgcrypto", false);
    oidvector* wanted = buildoidvector(types, arguments);
    CatCList* candidates = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));
    Oid found = InvalidOid;
    for (int i = 0; i < candidates->n_members; i++) {
        auto* procedure = reinterpret_cast<Form_pg_proc>(GETSTRUCT(&candidates->members[i]->tuple));
        bool const same = procedure->pronargs == arguments &&
                          std::memcmp(procedure->proargtypes.values, wanted->values, arguments * sizeof(Oid)) == 0;
        if (same && procedure->prolang == ClanguageId &&
            getExtensionOfObject(ProcedureRelationId, procedure->oid) == extension)
            found = procedure->oid;
    }
    ReleaseSysCacheList(candidates);
    if (!OidIsValid(found))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION), errmsg("pgcrypto has no function %s", name),
                        errhint("Run ALTER EXTENSION pgcrypto UPDATE.")));
    return found;
}

// The same, looked up once per process and again after any change of pg_proc.
Oid cachedFunction(Oid& known, const char* name, int arguments)
{
    static Oid* const functions[] = {&encryptFunction, &decryptFunction};
    static bool const watching = [] {
        CacheRegisterSyscacheCallback(
            PROCOID,
            [](Datum, int, std::uint32_t) {
                for (Oid* function : functions)
                    *function = InvalidOid;
            },
            0);
        return true;
    }();
    (void)watching;
    if (!OidIsValid(known))
        known = pgcryptoFunction(name, arguments);
    return known;
}

// A varlena in the current memory context. Wiped by whoever made it.
bytea* toVarlena(std::string_view bytes)
{
    auto* value = static_cast<bytea*>(palloc(VARHDRSZ + bytes.size()));
    SET_VARSIZE(value, VARHDRSZ + bytes.size());
    std::memcpy(VARDATA(value), bytes.data(), bytes.size());
    return value;
}

void wipe(bytea* value)
{
    ::explicit_bzero(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
}

// The key as pgcrypto's passphrase: text must not hold NUL bytes, base64 does not.
Secret passphrase(const Key& key)
{
    Secret phrase(base64Size(key.value.size()));
    encodeBase64(key.value.view(), phrase.data());
    return phrase;
}

Secret bind(const Owner& owner, std::string_view secret)
{
    Secret bound(UUID_LEN + owner.kind.size() + 1 + secret.size());
    char* at = bound.data();
    std::memcpy(at, owner.user.data, UUID_LEN);
    std::memcpy(at + UUID_LEN, owner.kind.data(), owner.kind.size());
    at[UUID_LEN + owner.kind.size()] = '\0';
    std::memcpy(at + UUID_LEN + owner.kind.size() + 1, secret.data(), secret.size());
    return bound;
}

[[noreturn]] void throwDamaged(const char* why)
{
    throw Failure("PT409", "the stored Twilio credential cannot be opened", why,
                  "Store the credential of this user again.");
}

const char* advice(KeyFileError::Kind kind)
{
    if (kind != KeyFileError::Kind::missing)
        return "See twilio.key_file; the file belongs to the server's user and has mode 0600.";
    if (shared::state == nullptr)
        return "Add shared_preload_libraries = 'pg_twilio' to postgresql.conf and restart the server, which makes it.";
    return "Put the file back; if it is lost, a restart of the server makes one with a new key.";
}

} // namespace

KeyRing keyRing()
{
    try {
        return readKeyFile(settings::keyFilePath());
    } catch (const KeyFileError& error) {
        throw Failure("58P01", "the key file of pg_twilio cannot be used", error.what(), advice(error.kind()));
    }
}

std::string addKeyToFile()
{
    try {
        return addKey(settings::keyFilePath());
    } catch (const KeyFileError& error) {
        throw Failure("58P01", "the key file of pg_twilio cannot be changed", error.what(),
                      "The file and its directory must be writable for the server's user.");
    }
}

Sealed seal(const Owner& owner, const Secret& secret)
{
    FreedMemoryOverwritten const overwritten;
    KeyRing const ring = keyRing();
    Secret const phrase = passphrase(ring.first());
    Secret const bound = bind(owner, secret.view());
    pg::MemoryScope scope("seal");
    bytea* sealed = pg::guarded([&] {
        bytea* plain = toVarlena(bound.view());
        bytea* key = toVarlena(phrase.view());
        Datum const result =
            OidFunctionCall3(cachedFunction(encryptFunction, "pgp_sym_encrypt_bytea", 3), PointerGetDatum(plain),
                             PointerGetDatum(key), CStringGetTextDatum(sealOptions));
        wipe(plain);
        wipe(key);
        return DatumGetByteaPP(result);
    });
    return {ring.first().id, std::string(VARDATA_ANY(sealed), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(sealed)))};
}

Secret open(const Owner& owner, std::string_view keyId, std::string_view sealed)
{
    FreedMemoryOverwritten const overwritten;
    KeyRing const ring = keyRing();
    const Key* key = ring.find(keyId);
    if (key == nullptr)
        throw Failure("PT409", "the stored Twilio credential cannot be opened",
                      "Key \"" + std::string(keyId) + "\" is not in the key file \"" + settings::keyFilePath() + "\".",
                      "Put that key back into the file, or store the credential again.");
    Secret const phrase = passphrase(*key);
    Secret bound;
    try {
        pg::MemoryScope scope("open");
        bytea* plain = pg::guarded([&] {
            bytea* closed = toVarlena(sealed);
            bytea* keyText = toVarlena(phrase.view());
            Datum const result = OidFunctionCall2(cachedFunction(decryptFunction, "pgp_sym_decrypt_bytea", 2),
                                                  PointerGetDatum(closed), PointerGetDatum(keyText));
            wipe(keyText);
            return DatumGetByteaPP(result);
        });
        bound = Secret({VARDATA_ANY(plain), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(plain))});
        wipe(plain);
    } catch (const pg::Error& error) {
        if (error.sqlstate() != ERRCODE_EXTERNAL_ROUTINE_INVOCATION_EXCEPTION)
            throw;
        throwDamaged("It is damaged, or was sealed with another key of the same id.");
    }
    Secret const prefix = bind(owner, {});
    if (bound.size() < prefix.size() || bound.size() > maxSecret ||
        std::memcmp(bound.data(), prefix.data(), prefix.size()) != 0)
        throwDamaged("It was sealed for another user.");
    return Secret(bound.view().substr(prefix.size()));
}

std::string nameOf(const Owner& owner, std::string_view keyId, std::string_view sealed)
{
    std::string name(reinterpret_cast<const char*>(owner.user.data), UUID_LEN);
    return name.append(owner.kind).append(1, '\0').append(keyId).append(1, '\0').append(sealed);
}

const Secret* Cache::find(const Owner& owner, std::string_view keyId, std::string_view sealed) const
{
    auto const found = opened_.find(nameOf(owner, keyId, sealed));
    return found == opened_.end() ? nullptr : &found->second;
}

const Secret& Cache::open(const Owner& owner, std::string_view keyId, std::string_view sealed)
{
    return opened_.insert_or_assign(nameOf(owner, keyId, sealed), secrets::open(owner, keyId, sealed)).first->second;
}

} // namespace twilio::secrets

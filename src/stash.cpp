// A map of one backend, empty between statements.
#include "stash.hpp"

namespace twilio::stash {

namespace {

std::map<std::string, secrets::Sealed> kept;

std::string nameOf(const secrets::Owner& owner)
{
    return std::string(reinterpret_cast<const char*>(owner.user.data), UUID_LEN).append(owner.kind);
}

} // namespace

void clear()
{
    kept.clear();
}

void put(const secrets::Owner& owner, std::string_view secret, bool replace)
{
    std::string name = nameOf(owner);
    if (!replace && kept.contains(name))
        return;
    kept.insert_or_assign(std::move(name), secrets::seal(owner, Secret(secret)));
}

std::optional<secrets::Sealed> take(const secrets::Owner& owner)
{
    auto node = kept.extract(nameOf(owner));
    if (node.empty())
        return std::nullopt;
    return std::move(node.mapped());
}

} // namespace twilio::stash

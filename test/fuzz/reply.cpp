// Any answer has an outcome, and no answer but a whole one with status 2xx is taken for a success.
#include <cstdint>
#include <cstdlib>

#include "reply.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    using namespace twilio;
    if (size < 3)
        return 0;
    Reply reply;
    reply.transport = static_cast<Transport>(data[0] % 6);
    reply.status = (data[1] << 8 | data[2]) % 700;
    reply.body.assign(reinterpret_cast<const char*>(data) + 3, size - 3);

    const Outcome outcome = interpret(reply, TimePoint(), 1, 0.5);
    const std::string audit = auditOutcome(reply);
    const bool isSent = std::holds_alternative<Sent>(outcome);
    if (isSent != (audit == "ok"))
        std::abort();
    if (isSent && (reply.transport != Transport::answered || reply.status / 100 != 2))
        std::abort();
    if (reply.transport == Transport::answered && reply.status / 100 == 5 && !std::holds_alternative<Unknown>(outcome))
        std::abort();
    if (explain(reply).message.empty())
        std::abort();
    return 0;
}

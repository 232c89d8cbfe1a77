// The permit lasts from permit() to the UPDATE that takes it, at most to end()
// or to the abort of the (sub)transaction: nobody else can find it.
//
// A verification that only confirms what is stored can be repeated at any time,
// so its commit need not wait for the disk, where the transaction wrote nothing
// else: no transaction id before, no WAL since.
#include "verification.hpp"

namespace twilio::verification {

namespace {

struct Recording {
    std::optional<pg_uuid_t> permitted;
    bool alone = false;                         // nothing was written before
    bool confirms = false;                      // nothing but the time is new
    XLogRecPtr writtenUpTo = InvalidXLogRecPtr; // the last of what was confirmed
} recording;

void beforeCommit()
{
    if (recording.writtenUpTo != InvalidXLogRecPtr && recording.writtenUpTo == XactLastRecEnd)
        pg::commitLazily();
}

void atEndOfTransaction(XactEvent event, void*)
{
    if (event == XACT_EVENT_PRE_COMMIT)
        beforeCommit();
    else if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
        recording = {};
}

void atEndOfSubtransaction(SubXactEvent event, SubTransactionId, SubTransactionId, void*)
{
    if (event == SUBXACT_EVENT_ABORT_SUB)
        recording = {};
}

} // namespace

void permit(const pg_uuid_t& user)
{
    pg::watchTransactions<atEndOfTransaction, atEndOfSubtransaction>();
    recording = {};
    recording.permitted = user;
    recording.alone = !TransactionIdIsValid(GetTopTransactionIdIfAny());
}

bool takePermit(const pg_uuid_t& user, bool confirms)
{
    auto const permitted = std::exchange(recording.permitted, std::nullopt);
    if (!permitted || std::memcmp(permitted->data, user.data, UUID_LEN) != 0)
        return false;
    recording.confirms = confirms;
    return true;
}

void end()
{
    recording.permitted.reset();
    if (recording.alone && recording.confirms)
        recording.writtenUpTo = XactLastRecEnd;
}

} // namespace twilio::verification

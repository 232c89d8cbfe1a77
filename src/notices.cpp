// What a subtransaction has to tell is its parent's when it commits, and is
// forgotten when it is rolled back, as PostgreSQL does with its own.
#include "notices.hpp"

namespace twilio::notices {

namespace {

struct Notice {
    int level; // of the subtransaction
    std::string text;
};

std::vector<Notice> pending; // levels never fall from one to the next

// PostgreSQL lets transactions that notify commit one after the other, and gives that lock to the one that waits
// longest, which has to be woken first. Where it is wanted often, all of them come to wait, and nearly all the time
// goes into waking: it is got sooner by coming back in a moment. One that is held for longer, by a commit that waits
// for a standby, say, is waited for as by everybody.
void awaitTurn()
{
    constexpr int looks = 20;
    constexpr long moment = 50; // µs
    LOCKTAG commits;
    SET_LOCKTAG_OBJECT(commits, InvalidOid, DatabaseRelationId, InvalidOid, 0); // as PreCommit_Notify() has it
    for (int i = 0; i < looks; i++) {
        if (LockAcquire(&commits, AccessExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL) {
            LockRelease(&commits, AccessExclusiveLock, false); // what else happens before the commit may take its time
            return;
        }
        pg_usleep(moment);
    }
}

void atEndOfTransaction(XactEvent event, void*)
{
    if (event == XACT_EVENT_PRE_COMMIT) {
        for (const Notice& notice : pending)
            Async_Notify("twilio", notice.text.c_str());
        if (!pending.empty())
            awaitTurn();
    } else if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
        pending.clear();
}

void atEndOfSubtransaction(SubXactEvent event, SubTransactionId, SubTransactionId, void*)
{
    int const level = GetCurrentTransactionNestLevel();
    if (event == SUBXACT_EVENT_ABORT_SUB)
        while (!pending.empty() && pending.back().level >= level)
            pending.pop_back();
    else if (event == SUBXACT_EVENT_COMMIT_SUB)
        for (auto notice = pending.rbegin(); notice != pending.rend() && notice->level >= level; ++notice)
            notice->level = level - 1;
}

} // namespace

void notifyAtCommit(std::string notice)
{
    pg::watchTransactions<atEndOfTransaction, atEndOfSubtransaction>();
    pending.push_back({GetCurrentTransactionNestLevel(), std::move(notice)});
}

} // namespace twilio::notices

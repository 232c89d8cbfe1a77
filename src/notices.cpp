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

void atEndOfTransaction(XactEvent event, void*)
{
    if (event == XACT_EVENT_PRE_COMMIT)
        for (const Notice& notice : pending)
            Async_Notify("twilio", notice.text.c_str());
    else if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
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

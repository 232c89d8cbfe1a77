// Statements of the worker, which it runs again and again.
#pragma once

#include "guard.hpp"

namespace twilio::pg {

// A statement prepared at its first use and kept for the life of the worker.
class Statement {
public:
    Statement(std::string sql, std::vector<Oid> types) : sql_(std::move(sql)), types_(std::move(types)) {}

    // To be called inside guarded().
    void run(Datum* values)
    {
        if (plan_ == nullptr) {
            plan_ = SPI_prepare(sql_.c_str(), static_cast<int>(types_.size()), types_.data());
            if (plan_ == nullptr)
                elog(ERROR, "%s: %s", sql_.c_str(), SPI_result_code_string(SPI_result));
            SPI_keepplan(plan_);
        }
        if (SPI_execute_plan(plan_, values, nullptr, false, 0) != SPI_OK_SELECT)
            elog(ERROR, "%s failed", sql_.c_str());
    }

private:
    std::string sql_;
    std::vector<Oid> types_;
    SPIPlanPtr plan_ = nullptr;
};

} // namespace twilio::pg

// Set by one thread when another is to come back soon from what it does step by step.
#pragma once

#include <atomic>

namespace twilio {

using Recall = std::atomic<bool>;

inline const Recall notRecalled = false;

} // namespace twilio

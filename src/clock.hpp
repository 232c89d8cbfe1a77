// The time in which the engine thinks: monotonic, and always passed in, so that
// whatever depends on it can be tested without waiting.
#pragma once

#include <chrono>

namespace twilio {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;

} // namespace twilio

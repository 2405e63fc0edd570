// The time of tests that drive the loop themselves: it goes on when they say so.
#pragma once

#include <chrono>

namespace tidemill {

struct VirtualClock {
  using Time = std::chrono::steady_clock::time_point;
  Time now = Time(std::chrono::hours(1));  // zero would mean "not yet"
  void advance(std::chrono::microseconds by) { now += by; }
};

}  // namespace tidemill

// How fast a model gets through its sequences, and when a place is likely to be free: the number of
// Retry-After (robustness.md 2). Thread-safe. No clock of its own.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <mutex>

namespace tidemill {

class ServicePace {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // By now, so many sequences have ended since the model was loaded. For every request.
  void observe(Time now, int64_t num_ended);
  // Whole seconds, 1 to 30, until `num_ahead` more have ended at the pace of the last half minute.
  // 1 when nothing is known of it.
  int64_t seconds_for(Time now, int64_t num_ended, int64_t num_ahead) const;

 private:
  struct Sample {
    Time time;
    int64_t num_ended;
  };
  mutable std::mutex mutex_;
  std::deque<Sample> samples_;  // one a second at most
};

}  // namespace tidemill

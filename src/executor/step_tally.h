// What steps have done lately: the share of the machine's reading that they reach, for /metrics,
// and the line of the log that says what a busy model does. Owned by the step loop's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "executor/executor.h"
#include "scheduler/scheduler.h"

namespace tidemill {

class StepTally {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // A `log_interval` of 0: no lines.
  StepTally(const ReadLimits& limits, std::chrono::milliseconds log_interval, Time now);

  void step(const StepPlan& plan, double seconds);

  // Once a second, what the steps since the last time read of what could have been read in their
  // time: every step the weights, and every row of a plan the keys and values of its context, once.
  // 0 without steps, or without a calibration. Nothing in between.
  std::optional<double> read_share(Time now);

  // Once per interval in which there was a step, the line; else empty.
  std::string line(Time now, const SchedulerCounts& counts);

 private:
  struct Sums {
    double prompt_tokens = 0.0;
    double decode_tokens = 0.0;
    double steps = 0.0;
    double seconds = 0.0;
    double bytes = 0.0;
  };
  double share_of(const Sums& sums) const;

  const ReadLimits limits_;
  const std::chrono::milliseconds log_interval_;
  Sums of_second_;
  Sums of_interval_;
  Time next_share_;
  Time last_line_;
};

}  // namespace tidemill

// Notices that the loop does not come back from a step: says so in the log, with counts and nothing
// of what is computed, and again when it has come back. A thread of its own that reads gauges and
// takes no lock of the loop. Private to executor/.
//
// The loop beats with every step, and five times a second when it is idle. It is stalled when its
// last beat is older than the watchdog time, which is the larger of step_watchdog_ms and 20 times
// the longest healthy step, and predict_timeout_ms at most.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "executor/executor.h"
#include "executor/loop_gauges.h"

namespace tidemill {

std::chrono::steady_clock::duration watchdog_time(const LoopGauges& gauges,
                                                  const ExecutorOptions& options);
// Since when the loop has been stalled, in time since its last beat; nothing when it is not, when
// it has not begun, or when it has failed.
std::optional<std::chrono::steady_clock::duration> stalled_for(
    const LoopGauges& gauges, const ExecutorOptions& options,
    std::chrono::steady_clock::time_point now);

class StepWatchdog {
 public:
  // All outlive this.
  StepWatchdog(const LoopGauges& gauges, const ExecutorOptions& options, std::string model_name);
  ~StepWatchdog();
  StepWatchdog(const StepWatchdog&) = delete;
  StepWatchdog& operator=(const StepWatchdog&) = delete;

 private:
  void watch();
  void look();
  void dump(std::chrono::steady_clock::duration age) const;

  const LoopGauges& gauges_;
  const ExecutorOptions& options_;
  const std::string model_name_;
  bool told_ = false;
  std::mutex mutex_;
  std::condition_variable ends_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace tidemill

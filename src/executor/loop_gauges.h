// What other threads may see of the loop, without a lock. Private to executor/.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace tidemill {

struct LoopGauges {
  std::atomic<int64_t> running{0}, waiting{0}, held_blocks{0}, cached_blocks{0}, total_blocks{0};
  std::atomic<int64_t> in_system{0};  // sequences submitted and not ended
  std::atomic<int64_t> ended{0};      // sequences, since the start
  std::atomic<std::chrono::steady_clock::time_point> heartbeat{};
  std::atomic<std::chrono::steady_clock::duration> longest_step{};  // of those that were healthy
  std::atomic<bool> prepared{false};  // see StepRunner::prepare(); false again with a step
  std::atomic<bool> failed{false};
};

}  // namespace tidemill

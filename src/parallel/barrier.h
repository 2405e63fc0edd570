// Where the workers of a section meet: one counter line and one generation line. Spins for a
// bounded number of pauses, then sleeps on a futex; never yields (a yielding spinner beside a busy
// stranger loses its time slice again and again).
#pragma once

#include <atomic>
#include <cstdint>

namespace tidemill {

class Barrier {
 public:
  explicit Barrier(int count) : count_(count) {}
  Barrier(const Barrier&) = delete;
  Barrier& operator=(const Barrier&) = delete;

  // Returns when `count` threads have called it in this generation; their earlier writes are
  // visible afterwards.
  void wait();

 private:
  // 128 bytes apart: adjacent lines are prefetched in pairs.
  alignas(128) std::atomic<int32_t> arrived_{0};
  alignas(128) std::atomic<uint32_t> generation_{0};
  alignas(128) std::atomic<int32_t> sleepers_{0};
  const int32_t count_;
};

}  // namespace tidemill

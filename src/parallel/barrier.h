// Where the workers of a section meet: one counter line and one generation line. Spins for a
// bounded number of pauses, then sleeps on a futex; never yields (a yielding spinner beside a busy
// stranger loses its time slice again and again). It keeps account of whom the sleepers waited for.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

namespace tidemill {

class Barrier {
 public:
  explicit Barrier(int count) : count_(count), lost_(static_cast<size_t>(count)) {}
  Barrier(const Barrier&) = delete;
  Barrier& operator=(const Barrier&) = delete;

  // Returns when `count` threads have called it in this generation, each as another lane below
  // `count`; their earlier writes are visible afterwards.
  void wait(int lane);

  // Of the generations to come, at most as many as it was made for. Starts the account anew.
  // Nobody may be in a generation that is not complete.
  void set_count(int count);

  // Seconds since set_count in which others slept until `lane` came. For a thread that has left
  // wait(), while no other is in it.
  double seconds_lost(int lane) const { return lost_[static_cast<size_t>(lane)].seconds; }

 private:
  void account_for(int lane);

  struct alignas(128) Lost {
    double seconds = 0.0;  // written by the lane that came last, before it lets the others go
  };

  // 128 bytes apart: adjacent lines are prefetched in pairs.
  alignas(128) std::atomic<int32_t> arrived_{0};
  alignas(128) std::atomic<uint32_t> generation_{0};
  alignas(128) std::atomic<int32_t> sleepers_{0};
  std::atomic<int64_t> asleep_since_{0};  // the first of this generation, steady clock; 0: nobody
  int32_t count_;
  std::vector<Lost> lost_;
};

}  // namespace tidemill

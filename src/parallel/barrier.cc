#include "parallel/barrier.h"

#include <chrono>

#include "parallel/futex.h"

namespace tidemill {
namespace {

// Some 40 to 100 microseconds: longer than any honest difference between two shares of a step, so
// that sleeping is for when a core was taken away.
constexpr int kSpins = 4000;

int64_t nanoseconds_now() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

void Barrier::set_count(int count) {
  count_ = count;
  for (Lost& lost : lost_) lost.seconds = 0.0;
  asleep_since_.store(0, std::memory_order_relaxed);
}

// A sleeper that says so when its generation is complete already is counted in the next one, of the
// same section.
void Barrier::account_for(int lane) {
  const int64_t since = asleep_since_.load(std::memory_order_relaxed);
  if (since == 0) return;
  asleep_since_.store(0, std::memory_order_relaxed);
  const auto slept = static_cast<double>(nanoseconds_now() - since);
  lost_[static_cast<size_t>(lane)].seconds += slept * 1e-9;
}

void Barrier::wait(int lane) {
  // Read before others can know of this arrival: behind the last one the count may change.
  const int32_t count = count_;
  const uint32_t generation = generation_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count) {
    arrived_.store(0, std::memory_order_relaxed);
    account_for(lane);
    // Sequentially consistent, as is the sleeper's announcement: one of the two sees the other.
    generation_.store(generation + 1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) futex_wake_all(generation_);
    return;
  }
  for (int i = 0; i < kSpins; ++i) {
    if (generation_.load(std::memory_order_acquire) != generation) return;
    pause();
  }
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  int64_t nobody = 0;
  asleep_since_.compare_exchange_strong(nobody, nanoseconds_now(), std::memory_order_relaxed);
  while (generation_.load(std::memory_order_seq_cst) == generation) {
    futex_wait(generation_, generation);
  }
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace tidemill

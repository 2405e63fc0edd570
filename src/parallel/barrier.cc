#include "parallel/barrier.h"

#include "parallel/futex.h"

namespace tidemill {
namespace {

// Some 40 to 100 microseconds: longer than any honest difference between two shares of a step, so
// that sleeping is for when a core was taken away.
constexpr int kSpins = 4000;

}  // namespace

void Barrier::wait() {
  const uint32_t generation = generation_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count_) {
    arrived_.store(0, std::memory_order_relaxed);
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
  while (generation_.load(std::memory_order_seq_cst) == generation) {
    futex_wait(generation_, generation);
  }
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace tidemill

#include "parallel/worker_pool.h"

#include <pthread.h>
#include <sched.h>
#include <xmmintrin.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include "parallel/futex.h"
#include "parallel/topology.h"

namespace tidemill {
namespace {

constexpr unsigned kFlushDenormals = 0x8040;  // MXCSR: flush to zero, denormals are zero

void pin_to(int cpu) {
  // As many sets as it takes: one holds 1024 CPUs.
  std::vector<cpu_set_t> sets(static_cast<size_t>(cpu) / CPU_SETSIZE + 1);
  const size_t bytes = sets.size() * sizeof(cpu_set_t);
  CPU_SET_S(static_cast<size_t>(cpu), bytes, sets.data());
  // A refusal (a cpuset that changed meanwhile) costs speed, not correctness.
  (void)pthread_setaffinity_np(pthread_self(), bytes, sets.data());
}

// Denormals cost three to four times a whole kernel (design: numerics). Restores what the caller
// had.
class FlushDenormals {
 public:
  FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | kFlushDenormals); }
  ~FlushDenormals() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
};

}  // namespace

struct WorkerPool::State {
  State(int count, const WorkerPoolOptions& pool_options, std::vector<int> pool_cores)
      : options(pool_options), cores(std::move(pool_cores)), barrier(count), num_threads(count) {}

  void work(int index);
  // Sleeps until a section newer than `seen` exists; its number.
  uint32_t next_section(uint32_t seen);

  const WorkerPoolOptions options;
  const std::vector<int> cores;
  Barrier barrier;
  const int num_threads;
  std::mutex callers;                                   // one section at a time
  const std::function<void(Lane&)>* section = nullptr;  // of the section that runs
  std::atomic<bool> stopping{false};
  alignas(128) std::atomic<uint32_t> section_number{0};
  alignas(128) std::atomic<int32_t> sleepers{0};
  std::vector<std::thread> threads;
};

uint32_t WorkerPool::State::next_section(uint32_t seen) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::microseconds(options.idle_spin_us);
  do {
    for (int i = 0; i < 64; ++i) {
      const uint32_t number = section_number.load(std::memory_order_acquire);
      if (number != seen) return number;
      pause();
    }
  } while (Clock::now() < deadline);
  sleepers.fetch_add(1, std::memory_order_seq_cst);
  uint32_t number = section_number.load(std::memory_order_seq_cst);
  while (number == seen) {
    futex_wait(section_number, seen);
    number = section_number.load(std::memory_order_seq_cst);
  }
  sleepers.fetch_sub(1, std::memory_order_relaxed);
  return number;
}

void WorkerPool::State::work(int index) {
  if (options.pin) pin_to(cores[static_cast<size_t>(index) % cores.size()]);
  _mm_setcsr(_mm_getcsr() | kFlushDenormals);
  for (uint32_t seen = 0;;) {
    seen = next_section(seen);
    if (stopping.load(std::memory_order_acquire)) return;
    Lane lane(index, num_threads, &barrier);
    (*section)(lane);
    barrier.wait();  // the section has ended when all have
  }
}

WorkerPool::WorkerPool(const WorkerPoolOptions& options) {
  std::vector<int> cores = usable_cores();
  const int count = options.num_threads > 0 ? options.num_threads : static_cast<int>(cores.size());
  state_ = std::make_unique<State>(count, options, std::move(cores));
  for (int index = 1; index < count; ++index) {
    state_->threads.emplace_back([state = state_.get(), index] { state->work(index); });
  }
}

WorkerPool::~WorkerPool() {
  state_->stopping.store(true, std::memory_order_release);
  state_->section_number.fetch_add(1, std::memory_order_seq_cst);
  futex_wake_all(state_->section_number);
  for (std::thread& thread : state_->threads) thread.join();
}

int WorkerPool::num_threads() const { return state_->num_threads; }

void WorkerPool::run(const std::function<void(Lane&)>& section) {
  State& state = *state_;
  const std::lock_guard one_section(state.callers);
  const FlushDenormals flush;
  Lane lane(0, state.num_threads, &state.barrier);
  if (state.num_threads == 1) {
    section(lane);
    return;
  }
  state.section = &section;
  state.section_number.fetch_add(1, std::memory_order_seq_cst);
  if (state.sleepers.load(std::memory_order_seq_cst) > 0) futex_wake_all(state.section_number);
  section(lane);
  state.barrier.wait();
}

}  // namespace tidemill

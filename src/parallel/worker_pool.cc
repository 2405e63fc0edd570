#include "parallel/worker_pool.h"

#include <pthread.h>
#include <sched.h>
#include <xmmintrin.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "base/check.h"
#include "parallel/futex.h"

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
  ~State();  // also of a pool that could not start all its threads

  void start_threads();
  void pin(int index) const;
  void work(int index);
  // Worker `index`'s part of the section that runs; returns when all parts have ended.
  void compute(int index);
  // Sleeps until a section newer than `seen` exists; its number.
  uint32_t next_section(uint32_t seen);

  const WorkerPoolOptions options;
  const std::vector<int> cores;
  Barrier barrier;
  const int num_threads;
  // One section at a time. Who waits for `callers` holds `next_caller`: whoever runs section behind
  // section queues behind him.
  std::mutex next_caller;
  std::mutex callers;
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

void WorkerPool::State::pin(int index) const {
  if (options.pin) pin_to(cores[static_cast<size_t>(index) % cores.size()]);
}

void WorkerPool::State::work(int index) {
  pin(index);
  _mm_setcsr(_mm_getcsr() | kFlushDenormals);
  for (uint32_t seen = 0;;) {
    seen = next_section(seen);
    if (stopping.load(std::memory_order_acquire)) return;
    compute(index);
  }
}

void WorkerPool::State::compute(int index) {
  CHECK((_mm_getcsr() & kFlushDenormals) == kFlushDenormals,
        "worker {} would compute with denormals: a section before changed MXCSR to {:#x}", index,
        _mm_getcsr());
  Lane lane(index, num_threads, &barrier);
  (*section)(lane);
  barrier.wait();
}

void WorkerPool::State::start_threads() {
  threads.reserve(static_cast<size_t>(num_threads));
  try {
    for (int index = 1; index < num_threads; ++index) {
      threads.emplace_back([this, index] { work(index); });
    }
  } catch (const std::system_error& error) {
    throw std::runtime_error(
        format("{} of {} workers could be started ({}). Lower threads, or raise the limit on the "
               "processes or the memory of this user or container.",
               threads.size() + 1, num_threads, error.code().message()));
  }
}

WorkerPool::State::~State() {
  stopping.store(true, std::memory_order_release);
  section_number.fetch_add(1, std::memory_order_seq_cst);
  futex_wake_all(section_number);
  for (std::thread& thread : threads) thread.join();
}

WorkerPool::WorkerPool(const WorkerPoolOptions& options) {
  std::vector<int> cores = usable_cores();
  const int count = options.num_threads > 0 ? options.num_threads : static_cast<int>(cores.size());
  state_ = std::make_unique<State>(count, options, std::move(cores));
  state_->start_threads();
}

WorkerPool::~WorkerPool() = default;

int WorkerPool::num_threads() const { return state_->num_threads; }

void WorkerPool::pin_caller() const { state_->pin(0); }

void WorkerPool::run(const std::function<void(Lane&)>& section) {
  State& state = *state_;
  std::unique_lock turn(state.next_caller);
  const std::lock_guard one_section(state.callers);
  turn.unlock();
  const FlushDenormals flush;
  state.section = &section;
  if (state.num_threads > 1) {
    state.section_number.fetch_add(1, std::memory_order_seq_cst);
    if (state.sleepers.load(std::memory_order_seq_cst) > 0) futex_wake_all(state.section_number);
  }
  state.compute(0);
}

}  // namespace tidemill

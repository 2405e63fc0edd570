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
#include "base/log.h"
#include "base/thread_name.h"
#include "parallel/attendance.h"
#include "parallel/core_time.h"
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

double seconds_waited_here() {
  thread_local CoreClock clock;
  return clock.read().waited;
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void log_change(const Attendance::Change& change, int cpu) {
  if (change.back) {
    log_debug("the worker of CPU {} takes part again", cpu);
  } else {
    log_info(
        "others use CPU {}: its worker was waited for {:.0f} % of the time; the other workers "
        "go on without it and try it again in {:.0f} s",
        cpu, 100.0 * change.share_lost, change.pause_seconds);
  }
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
      : options(pool_options),
        cores(std::move(pool_cores)),
        barrier(count),
        cursors(count),
        num_threads(count),
        attendance(count),
        everybody(attendance.present()),
        seats(static_cast<size_t>(count)),
        account(static_cast<size_t>(count)) {}
  ~State();  // also of a pool that could not start all its threads

  void start_threads();
  // The CPU that is the pool's core `index`.
  int cpu_of(int index) const { return cores[static_cast<size_t>(index) % cores.size()]; }
  void pin_to_core(int index) const;
  void pin_caller();
  // To its core by the attendance. On its own thread, before it takes part.
  void pin_worker(int index);
  void work(int index);
  // Calls the workers to a section, by lane.
  void call(const std::vector<int>& workers);
  // Worker `index`'s part of the section that runs; returns when all parts have ended.
  void compute(int index);
  void run(const std::function<void(Lane&)>& section, bool only_present);
  void take_account(double begin, double end);
  // Waits until a section newer than `seen` exists; its number. At once asleep if `spins` is not.
  uint32_t next_section(uint32_t seen, bool spins);

  const WorkerPoolOptions options;
  const std::vector<int> cores;
  Barrier barrier;
  WorkCursors cursors;
  const int num_threads;
  // One section at a time. Who waits for `callers` holds `next_caller`: whoever runs section behind
  // section queues behind him.
  std::mutex next_caller;
  std::mutex callers;
  // Of the section that runs: what to do, and how many do it.
  const std::function<void(Lane&)>* section = nullptr;
  int num_lanes = 0;

  // Changed by worker 0 between sections. A worker reads them when it is called to a section, which
  // cannot end without it.
  Attendance attendance;
  const std::vector<int> everybody;
  std::atomic<bool> has_pinned_caller{false};
  std::atomic<int> core_of_caller{0};
  struct alignas(128) Seat {
    std::atomic<uint32_t> called_to{0};  // the newest section that this worker takes part in
    int lane = 0;
    int core = -1;                // where it was pinned; its own
    double seconds_waited = 0.0;  // in the section; read when it has ended
  };
  std::vector<Seat> seats;      // by worker
  bool measures_waits = false;  // in the section that runs
  std::vector<Attendance::OfLane> account;
  std::atomic<bool> stopping{false};
  alignas(128) std::atomic<uint32_t> section_number{0};
  alignas(128) std::atomic<int32_t> sleepers{0};
  std::vector<std::thread> threads;
};

uint32_t WorkerPool::State::next_section(uint32_t seen, bool spins) {
  using Clock = std::chrono::steady_clock;
  const int spin_us = spins ? options.idle_spin_us : 0;
  const auto deadline = Clock::now() + std::chrono::microseconds(spin_us);
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

void WorkerPool::State::pin_to_core(int index) const {
  if (options.pin) pin_to(cpu_of(index));
}

void WorkerPool::State::pin_caller() {
  has_pinned_caller = true;
  pin_to_core(core_of_caller);
}

void WorkerPool::State::pin_worker(int index) {
  const int core = attendance.core_of(index);
  int& pinned = seats[static_cast<size_t>(index)].core;
  if (pinned == core) return;
  pinned = core;
  pin_to_core(core);
}

void WorkerPool::State::work(int index) {
  name_thread(format("worker {}", index));
  _mm_setcsr(_mm_getcsr() | kFlushDenormals);
  bool takes_part = true;
  for (uint32_t seen = 0;;) {
    seen = next_section(seen, takes_part);
    if (stopping.load(std::memory_order_acquire)) return;
    // Who sits out may wake late, when the next section is being prepared: it looks at nothing
    // else.
    const Seat& seat = seats[static_cast<size_t>(index)];
    takes_part = seat.called_to.load(std::memory_order_acquire) == seen;
    if (!takes_part) continue;
    pin_worker(index);
    compute(index);
  }
}

void WorkerPool::State::compute(int index) {
  CHECK((_mm_getcsr() & kFlushDenormals) == kFlushDenormals,
        "worker {} would compute with denormals: a section before changed MXCSR to {:#x}", index,
        _mm_getcsr());
  Seat& seat = seats[static_cast<size_t>(index)];
  Lane lane(seat.lane, num_lanes, barrier, cursors, index);
  const auto waited =
      options.seconds_waited != nullptr ? options.seconds_waited : seconds_waited_here;
  const double before = measures_waits ? waited() : 0.0;
  (*section)(lane);
  seat.seconds_waited = measures_waits ? waited() - before : 0.0;
  lane.meet();
}

void WorkerPool::State::call(const std::vector<int>& workers) {
  num_lanes = static_cast<int>(workers.size());
  barrier.set_count(num_lanes);
  cursors.reset();
  const uint32_t number = section_number.load(std::memory_order_relaxed) + 1;
  for (int lane = 0; lane < num_lanes; ++lane) {
    Seat& seat = seats[static_cast<size_t>(workers[static_cast<size_t>(lane)])];
    seat.lane = lane;
    seat.called_to.store(number, std::memory_order_release);
  }
  if (num_lanes == 1) return;
  section_number.store(number, std::memory_order_seq_cst);
  if (sleepers.load(std::memory_order_seq_cst) > 0) futex_wake_all(section_number);
}

void WorkerPool::State::take_account(double begin, double end) {
  for (int lane = 0; lane < num_lanes; ++lane) {
    const int worker = attendance.present()[static_cast<size_t>(lane)];
    account[static_cast<size_t>(lane)] = {
        .seconds_lost = barrier.seconds_lost(lane),
        .seconds_waited = seats[static_cast<size_t>(worker)].seconds_waited};
  }
  const auto change = attendance.observe(begin, end, account);
  if (!change) return;
  log_change(*change, cpu_of(change->core));
  core_of_caller = attendance.core_of(0);
  pin_caller();
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

void WorkerPool::pin_caller() { state_->pin_caller(); }

void WorkerPool::State::run(const std::function<void(Lane&)>& work, bool only_present) {
  std::unique_lock turn(next_caller);
  const std::lock_guard one_section(callers);
  turn.unlock();
  const FlushDenormals flush;
  section = &work;
  // Who has no core of its own cannot leave it to others.
  const bool by_attendance = only_present && options.pin && has_pinned_caller &&
                             static_cast<size_t>(num_threads) <= cores.size();
  const double begin = by_attendance ? seconds_now() : 0.0;
  measures_waits = by_attendance && attendance.must_measure_waits();
  call(by_attendance ? attendance.present() : everybody);
  compute(0);
  if (by_attendance) take_account(begin, seconds_now());
}

void WorkerPool::run(const std::function<void(Lane&)>& section) { state_->run(section, false); }

void WorkerPool::run_present(const std::function<void(Lane&)>& section) {
  state_->run(section, true);
}

}  // namespace tidemill

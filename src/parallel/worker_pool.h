// A pool of pinned workers for parallel sections. The caller of run() is worker 0 (the loop
// thread); the others wait for sections, spinning for a bounded time and then asleep on a futex.
// Worker 0 stays on its core when its thread asks for it (pin_caller).
//
// Owner: whoever builds the executor; several executors may share one pool (sections are then
// serialised). A section may be run by one thread at a time per pool; a second caller waits.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "parallel/lane.h"
#include "parallel/topology.h"

namespace tidemill {

struct WorkerPoolOptions {
  int num_threads = 0;    // 0: one for each of usable_cores() (topology.h)
  bool pin = true;        // each worker to its core
  int idle_spin_us = 50;  // how long workers spin for the next section before they sleep
  // How long the calling thread has waited for a core; null: what the system says (core_time.h).
  double (*seconds_waited)() = nullptr;
};

class WorkerPool {
 public:
  // Throws std::runtime_error when a thread cannot be started.
  explicit WorkerPool(const WorkerPoolOptions& options = {});
  ~WorkerPool();  // no section may be running
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  int num_threads() const;

  // Keeps the calling thread on worker 0's core from now on, if workers are pinned; where others
  // take that core, run_present() moves it to another one. For a thread whose work is to run
  // sections: threads that it starts later inherit the core.
  void pin_caller();

  // Runs `section` on every worker at once and returns when all have ended. `section` must not
  // throw. Flush-to-zero and denormals-are-zero are on in every worker, the caller included, for
  // the duration.
  void run(const std::function<void(Lane&)>& section);

  // The same without the workers that would hold up the others since a stranger uses their cores
  // (attendance.h), for sections that are one of many alike: a step. Lanes are as many as workers
  // that take part. For one thread, which has called pin_caller(). All take part where workers are
  // not pinned, or are more than cores.
  void run_present(const std::function<void(Lane&)>& section);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tidemill

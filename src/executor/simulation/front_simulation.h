// The front door under a virtual clock, in one thread (robustness 6.3): Executor, mailbox, step
// loop, scheduler and streams as they are in production; the network is simulated. One seed decides
// what clients ask, when they read, leave or are slow, how long steps take, when the clock leaps,
// what fails, and when the model drains or stops.
//
// After every event: what a client has received is the beginning of what it must (I14); nobody who
// has left or whose time is over has a row in a step; refusals come exactly where
// the queue is full, the prompt too long, the model draining or broken; what lies unread is
// bounded. At last everything ends within a computed bound, nothing is held, and the
// counters add up (I15). Some runs limit the time of steps, whose costs the loop has to learn: of
// all of them together 99 in 100 steps that nobody disturbed are within.
#pragma once

#include <cstdint>
#include <functional>

#include "executor/simulation/simulated_runner.h"
#include "scheduler/simulation/scheduler_simulation.h"

namespace tidemill {

enum class FrontFault : uint8_t { kNone, kDeafToLeaving };

struct FrontReport {
  int64_t events = 0;  // submissions, reads, leavings, turns of the loop, and their like
  int64_t steps = 0;
  int64_t accepted_drafts = 0;
  uint64_t trace = 0;
  int64_t requests = 0;        // let in
  int64_t answers = 0;         // whole
  int64_t scored_prompts = 0;  // answers with the scores of their prompts
  int64_t chosen_answers = 0;  // those of which the best were chosen
  int64_t left = 0;
  int64_t errors = 0;  // other than those that follow
  int64_t expired = 0;
  int64_t full = 0;
  int64_t too_long = 0;
  int64_t drained = 0;
  int64_t broken = 0;         // models that stopped working
  int64_t starved = 0;        // turns of the loop in which an allocation failed
  int64_t out_of_memory = 0;  // requests that this has cost
  int64_t most_unread = 0;
  JudgedSteps judged;  // of the runs whose steps have a limit

  void add(const FrontReport& other);
};

// A turn of the loop in which the allocation of that number fails; true when it came so far. The
// binary that has such an operator new supplies it.
using StarvedTurn = std::function<bool(int64_t number, const std::function<void()>& turn)>;

// Throws SimulationFailure.
FrontReport simulate_front(uint64_t seed, FrontFault fault = FrontFault::kNone,
                           StarvedTurn starved = {});

}  // namespace tidemill

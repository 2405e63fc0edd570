// A scheduler under random traffic (robustness 6.3): one 64-bit seed decides its options and
// everything that happens to it. What clients receive is compared with what they must; the
// invariants I1 to I15 are checked after every event; at last a quiet phase, within a bound that is
// computed, lets everything end, and everything is free.
//
// An event is one thing that happens to one sequence: it arrives or is refused, is cancelled,
// paused, resumed or given drafts, has a row of a step planned and answered, is preempted, ends.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "scheduler/scheduler.h"

namespace tidemill {

// What a seed stresses; its highest byte says it, so that the seed alone replays a run.
enum class SimulationFocus : uint8_t {
  kEverything,
  kCancels,
  kTightPools,
  kCollisions,
  kOwnDrafts,  // texts that repeat themselves, and draft themselves
  kDraftModel  // and a model that drafts them; half of them do not repeat themselves
};
constexpr uint64_t seed_of(SimulationFocus focus, uint64_t number) {
  return (static_cast<uint64_t>(focus) << 56) | (number & 0x00ffffffffffffffu);
}
constexpr SimulationFocus focus_of(uint64_t seed) {
  return static_cast<SimulationFocus>(seed >> 56);
}
constexpr bool texts_repeat(uint64_t seed) {
  const SimulationFocus focus = focus_of(seed);
  return focus == SimulationFocus::kOwnDrafts ||
         (focus == SimulationFocus::kDraftModel && seed % 2 == 1);
}

// Deliberate damage, once in a run: the checks must find each of them.
enum class SimulationFault : uint8_t {
  kNone,
  kLeakedBlock,
  kStrayWrite,
  kLostToken,
  kChangedToken,
  kLostScores
};

// Something that must hold does not. A CHECK of the scheduler itself ends the process instead.
struct SimulationFailure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct SimulationReport {
  int64_t events = 0;
  int64_t steps = 0;
  int64_t audits = 0;  // full ones; the cheap ones follow every event
  uint64_t trace = 0;  // of everything that happened, in order
  // How often the traffic went where it should.
  int64_t answers = 0;  // whole ones, each as it must be
  int64_t failed = 0;
  int64_t refused = 0;        // could never fit
  int64_t cancelled[3] = {};  // while queued, running, preempted
  int64_t paused = 0;
  int64_t dropped_tokens = 0;  // accepted behind an end
  int64_t accepted_drafts = 0;
  int64_t refused_drafts = 0;  // of rows that did not end with them
  int64_t model_drafts = 0;
  int64_t catching_up = 0;  // rows of a draft model that sees, and does not draft yet
  int64_t preemptions = 0;
  int64_t hit_tokens = 0;
  int64_t scored_prompts = 0;   // whole ones
  int64_t scored_in_parts = 0;  // rows that went on with a prompt
  int64_t scored_later = 0;     // rows of sequences that had been preempted with a part of it
  int64_t timed_chunks = 0;     // steps with prompts in them that had to fit into a time
  int64_t least_chunks = 0;     // and those that could not
  int64_t overtakings = 0;      // sequences let in before an older one of a higher number
  int64_t longest_wait = 0;     // steps that a sequence at the head of the queue has waited

  void add(const SimulationReport& other);
};

SchedulerOptions simulated_options(uint64_t seed);

// Throws SimulationFailure.
SimulationReport simulate_scheduler(uint64_t seed, SimulationFault fault = SimulationFault::kNone);

}  // namespace tidemill

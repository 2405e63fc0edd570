#include "scheduler/simulation/scheduler_simulation.h"

#include <algorithm>
#include <iterator>

#include "scheduler/simulation/scheduler_run.h"

namespace tidemill {

void SimulationReport::add(const SimulationReport& other) {
  events += other.events;
  steps += other.steps;
  audits += other.audits;
  trace = scramble(trace + other.trace);
  answers += other.answers;
  failed += other.failed;
  refused += other.refused;
  for (size_t i = 0; i < std::size(cancelled); ++i) cancelled[i] += other.cancelled[i];
  paused += other.paused;
  dropped_tokens += other.dropped_tokens;
  accepted_drafts += other.accepted_drafts;
  model_drafts += other.model_drafts;
  catching_up += other.catching_up;
  refused_drafts += other.refused_drafts;
  preemptions += other.preemptions;
  hit_tokens += other.hit_tokens;
  scored_prompts += other.scored_prompts;
  scored_in_parts += other.scored_in_parts;
  scored_later += other.scored_later;
  timed_chunks += other.timed_chunks;
  least_chunks += other.least_chunks;
  overtakings += other.overtakings;
  longest_wait = std::max(longest_wait, other.longest_wait);
}

SimulationReport simulate_scheduler(uint64_t seed, SimulationFault fault) {
  return SchedulerRun(seed, fault).run();
}

}  // namespace tidemill

#include "executor/simulation/front_simulation.h"

#include <algorithm>
#include <utility>

#include "executor/simulation/front_run.h"

namespace tidemill {

void FrontReport::add(const FrontReport& other) {
  events += other.events;
  steps += other.steps;
  accepted_drafts += other.accepted_drafts;
  trace = scramble(trace + other.trace);
  requests += other.requests;
  answers += other.answers;
  scored_prompts += other.scored_prompts;
  chosen_answers += other.chosen_answers;
  left += other.left;
  errors += other.errors;
  expired += other.expired;
  full += other.full;
  too_long += other.too_long;
  drained += other.drained;
  broken += other.broken;
  starved += other.starved;
  out_of_memory += other.out_of_memory;
  judged.all += other.judged.all;
  judged.over += other.judged.over;
  judged.used += other.judged.used;
  most_unread = std::max(most_unread, other.most_unread);
}

FrontReport simulate_front(uint64_t seed, FrontFault fault, StarvedTurn starved) {
  return FrontRun(seed, fault, std::move(starved)).run();
}

}  // namespace tidemill

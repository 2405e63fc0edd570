// What a seed makes of the options: most runs are small, where borders meet often, and every kind
// of extreme is among them.
#include <algorithm>

#include "scheduler/prefix_cache.h"
#include "scheduler/simulation/random.h"
#include "scheduler/simulation/scheduler_simulation.h"

namespace tidemill {
namespace {

uint64_t always_equal(std::span<const TokenId>) { return 7; }
uint64_t often_equal(std::span<const TokenId> tokens) {
  return static_cast<uint64_t>(tokens.front());
}

void set_groups(SimulationRandom& random, int64_t blocks, SchedulerOptions& options) {
  const int64_t window = random.between(1, 80);
  switch (random.up_to(4)) {
    case 0:
      options.groups = {{.num_blocks = blocks}, {.num_blocks = blocks, .window = window}};
      break;
    case 1:
      options.groups = {{.num_blocks = blocks, .window = window}};
      break;
    default:
      options.groups = {{.num_blocks = blocks}};
  }
}

int64_t num_blocks(SimulationRandom& random, SimulationFocus focus) {
  if (focus == SimulationFocus::kTightPools) return random.between(2, 12);
  switch (random.up_to(7)) {
    case 0:
      return 1;
    case 1:
    case 2:
      return random.between(2, 8);
    case 3:
      return random.between(65, 400);
    default:
      return random.between(9, 64);
  }
}

}  // namespace

SchedulerOptions simulated_options(uint64_t seed) {
  const auto focus = static_cast<SimulationFocus>(seed >> 56);
  SimulationRandom random(seed);
  SchedulerOptions options;
  set_groups(random, num_blocks(random, focus), options);
  options.max_sequences = static_cast<int32_t>(
      random.one_of({int64_t{1}, int64_t{2}, random.between(3, 8), int64_t{32}, int64_t{64}}));
  options.max_step_tokens = static_cast<int32_t>(random.one_of(
      {int64_t{1}, random.between(2, 31), random.between(32, 160), int64_t{96}, int64_t{512}}));
  options.max_step_drafts = static_cast<int32_t>(random.one_of({0, 8, 48}));
  options.min_chunk_tokens = static_cast<int32_t>(random.one_of({1, 32, 64, 128}));
  options.max_preemptions =
      static_cast<int32_t>(random.one_in(6) ? 1'000'000 : random.one_of({0, 1, 3, 16}));
  options.prefix_cache = focus == SimulationFocus::kCollisions || !random.one_in(4);
  if (focus == SimulationFocus::kTightPools) {  // many at once, who grow beyond what is there
    options.max_sequences = static_cast<int32_t>(random.between(3, 32));
    options.max_step_tokens = static_cast<int32_t>(random.between(32, 512));
    options.max_preemptions = std::max(options.max_preemptions, 1);
  }
  if (focus == SimulationFocus::kCollisions || random.one_in(8)) {
    options.block_hash = random.one_in(2) ? &always_equal : &often_equal;
  }
  if (focus == SimulationFocus::kOwnDrafts || focus == SimulationFocus::kDraftModel) {
    options.speculative = random.one_in(2) ? "auto" : "ngram";
    options.speculative_length = static_cast<int32_t>(random.between(1, 15));
    options.free_tokens = static_cast<int32_t>(random.one_of({0, 4, 16, 64, 200}));
    options.step_growth = {1.0};
    for (int64_t tokens = random.one_of({1, 8, 64}); tokens > 1; --tokens) {
      options.step_growth.push_back(options.step_growth.back() +
                                    static_cast<double>(random.between(0, 20)) / 100.0);
    }
    options.max_step_tokens = std::max(options.max_step_tokens, 4);
  }
  if (focus == SimulationFocus::kDraftModel) {
    options.groups = {{.num_blocks = options.groups.front().num_blocks}};
    options.draft_model_cost = random.one_of({0.01, 0.2});
    options.draft_model_len = random.one_of({int64_t{20}, int64_t{1000}, int64_t{1000}});
  }
  if (random.one_in(3)) options.mixed_step_tokens = static_cast<int32_t>(random.between(1, 256));
  return options;
}

}  // namespace tidemill

// How many of a sequence's blocks are neighbours, in a pool that the prefix cache has filled long
// ago: what a server's pool is for all but its first minutes.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "scheduler/prefix_cache.h"
#include "scheduler/scheduler.h"
#include "scheduler/sequence.h"
#include "scheduler/test_steps.h"

namespace tidemill {
namespace {

constexpr int kClients = 16;

// Of the pairs of blocks behind each other in what runs after so many sequences have ended, the
// share whose second one is the next of the same bundle. All prompts are different.
double share_of_neighbours(int64_t num_blocks, int32_t least_blocks, int32_t most_blocks) {
  Scheduler scheduler(
      {.max_sequences = kClients, .max_step_tokens = 512, .groups = {{.num_blocks = num_blocks}}});
  std::mt19937_64 random(1);
  SequenceId next = 0;
  std::vector<SequenceId> running;
  int64_t pairs = 0;
  int64_t neighbours = 0;
  int64_t most_free = 0;
  for (int ended = 0; ended < 300;) {
    while (running.size() < kClients) {
      std::uniform_int_distribution<int32_t> blocks(least_blocks, most_blocks);
      const int32_t tokens = blocks(random) * kBlockTokens;
      running.push_back(++next);
      scheduler.add({.id = next,
                     .prompt = prompt_of(tokens * 2 / 3, static_cast<TokenId>(next * 100'000)),
                     .max_new_tokens = tokens / 3});
    }
    const StepPlan plan = scheduler.next_step();
    for (const PlanRow& row : plan.rows) {
      if (ended < 100) break;
      const BlockTable& table = scheduler.find(row.sequence)->block_tables[0];
      for (size_t i = 1; i < table.size(); ++i, ++pairs) {
        neighbours += table[i].id() == table[i - 1].id() + 1 &&
                      table[i].id() / kBlocksPerBundle == table[i - 1].id() / kBlocksPerBundle;
      }
    }
    for (const SequenceEnd& end : scheduler.commit(answer(plan)).ends) {
      std::erase(running, end.id);
      ++ended;
    }
    if (ended >= 100) most_free = std::max(most_free, scheduler.counts().free_blocks);
  }
  // The cache keeps the rest of the pool. (What ended without filling its last block gives it
  // back.)
  EXPECT_LE(most_free, num_blocks / 12 + kClients);
  scheduler.check_invariants();
  return static_cast<double>(neighbours) / static_cast<double>(pairs);
}

TEST(Neighbours, LongSequencesGetThemInAPoolThatIsFull) {
  EXPECT_GT(share_of_neighbours(2048, 32, 96), 0.8);
}

TEST(Neighbours, ShortOnesGetThemOftenInAPoolThatIsFull) {
  EXPECT_GT(share_of_neighbours(400, 4, 24), 0.5);
  EXPECT_GT(share_of_neighbours(320, 12, 12), 0.5);
}

}  // namespace
}  // namespace tidemill

// Prompts whose own tokens are scored, and the order of admission by priority.
#include "scheduler/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "scheduler/sequence.h"
#include "scheduler/simulation/random.h"
#include "scheduler/test_steps.h"

namespace tidemill {
namespace {

using testing::ElementsAre;

// Answers a plan; what each row scored and chose does not matter here.
Recorded commit_scored(Scheduler& scheduler, const StepPlan& plan) {
  StepResult result;
  for (const PlanRow& row : plan.rows) {
    if (row.num_score_rows == 0) continue;
    RowResult& of_row = result.rows.emplace_back();
    of_row.sequence = row.sequence;
    of_row.prompt.resize(static_cast<size_t>(row.num_prompt_rows));
    if (row.num_choice_rows() > 0) of_row.accepted = {{.token = 7}};
  }
  const Recorded recorded = scheduler.commit(result);
  scheduler.check_invariants();
  return recorded;
}

PlanRow scored(SequenceId id, int32_t first, int32_t tokens, int32_t prompt_rows, bool choice) {
  return {.sequence = id,
          .first_position = first,
          .num_tokens = tokens,
          .num_score_rows = prompt_rows + choice,
          .num_prompt_rows = prompt_rows};
}

TEST(ScoredPrompt, GoesOnByAsManyTokensAsThereAreScoreRows) {
  Scheduler scheduler({.max_sequences = 4, .groups = {{.num_blocks = 64}}});
  scheduler.add({.id = 1, .prompt = prompt_of(6), .max_new_tokens = 3, .score_prompt = true});
  StepPlan plan = scheduler.next_step();
  EXPECT_THAT(plan.rows, ElementsAre(scored(1, 0, 4, 4, false)));
  EXPECT_THAT(commit_scored(scheduler, plan).num_tokens, ElementsAre(0));
  plan = scheduler.next_step();
  EXPECT_THAT(plan.rows, ElementsAre(scored(1, 4, 2, 1, true)));
  EXPECT_THAT(commit_scored(scheduler, plan).num_tokens, ElementsAre(1));
  EXPECT_THAT(scheduler.next_step().rows, ElementsAre(scored(1, 6, 1, 0, true)));
}

TEST(ScoredPrompt, LeavesARowToEveryoneElseWhoRuns) {
  Scheduler scheduler({.max_sequences = 4, .groups = {{.num_blocks = 64}}});
  scheduler.add({.id = 1, .prompt = prompt_of(3), .max_new_tokens = 9});
  commit_scored(scheduler, scheduler.next_step());
  scheduler.add({.id = 2, .prompt = prompt_of(9, 500), .max_new_tokens = 3, .score_prompt = true});
  const StepPlan plan = scheduler.next_step();
  EXPECT_THAT(plan.rows, ElementsAre(scored(1, 3, 1, 0, true), scored(2, 0, 3, 3, false)));
}

TEST(ScoredPrompt, LeavesARowToWhoMayBeLetInAndTakesWhatThenIsLeft) {
  Scheduler scheduler({.max_sequences = 8, .groups = {{.num_blocks = 5}}});
  scheduler.add({.id = 1, .prompt = prompt_of(90), .max_new_tokens = 9, .score_prompt = true});
  StepPlan plan = scheduler.next_step();
  EXPECT_THAT(plan.rows, ElementsAre(scored(1, 0, 8, 8, false))) << "nobody else is there";
  commit_scored(scheduler, plan);
  scheduler.add({.id = 2, .prompt = prompt_of(20, 500), .max_new_tokens = 9});
  scheduler.add({.id = 3, .prompt = prompt_of(130, 700), .max_new_tokens = 9});  // has no room
  scheduler.add({.id = 4, .prompt = prompt_of(20, 900), .max_new_tokens = 9});
  plan = scheduler.next_step();
  EXPECT_THAT(plan.rows, ElementsAre(scored(1, 8, 7, 7, false), scored(2, 0, 20, 0, true)));
  commit_scored(scheduler, plan);
  plan = scheduler.next_step();
  EXPECT_THAT(plan.rows, ElementsAre(scored(2, 20, 1, 0, true), scored(1, 15, 7, 7, false)));
}

// Of a step's tokens it takes a sixteenth before others have what they need.
TEST(ScoredPrompt, TakesFewTokensBeforeWhoIsLetIn) {
  Scheduler scheduler({.max_sequences = 64, .max_step_tokens = 64, .groups = {{.num_blocks = 64}}});
  scheduler.add({.id = 1, .prompt = prompt_of(300), .max_new_tokens = 9, .score_prompt = true});
  StepPlan plan = scheduler.next_step();
  EXPECT_THAT(plan.rows, ElementsAre(scored(1, 0, 64, 64, false)));
  commit_scored(scheduler, plan);
  scheduler.add({.id = 2, .prompt = prompt_of(50, 500), .max_new_tokens = 9});
  EXPECT_THAT(scheduler.next_step().rows,
              ElementsAre(scored(1, 64, 14, 14, false), scored(2, 0, 50, 0, true)));
}

// When the token of a newcomer comes, in steps since it came; with scored prompts or without them.
// Draws depend on `seed` alone.
int64_t steps_of_newcomer(uint64_t seed, bool with_scored) {
  SimulationRandom random(seed);
  const auto max_sequences = static_cast<int32_t>(random.between(3, 24));
  const auto step_tokens = static_cast<int32_t>(
      random.between(4 * max_sequences, random.one_of({4 * max_sequences, 128, 512}) + 96));
  Scheduler scheduler({.max_sequences = max_sequences,
                       .max_step_tokens = step_tokens,
                       .min_chunk_tokens = static_cast<int32_t>(random.one_of({1, 32, 64})),
                       .groups = {{.num_blocks = 4000}}});
  const int64_t num_scored = random.between(1, std::min(3, max_sequences - 1));
  const int64_t num_plain = random.up_to(max_sequences - num_scored - 1);
  const int64_t length = random.between(1, step_tokens / 2);
  const int64_t first_scored = random.up_to(num_plain);
  SequenceId next = 1;
  for (int64_t i = 0; i < num_scored + num_plain; ++i) {
    const bool is_scored = i >= first_scored && i < first_scored + num_scored;
    const SequenceId id = next++;
    if (is_scored && !with_scored) continue;
    scheduler.add({.id = id,
                   .prompt = prompt_of(is_scored ? 4000 : 3, static_cast<TokenId>(1000 * id)),
                   .max_new_tokens = 100,
                   .score_prompt = is_scored});
  }
  for (int i = 0; i < 4; ++i) {
    const StepPlan plan = scheduler.next_step();
    if (!plan.empty()) commit_scored(scheduler, plan);
  }
  scheduler.add(
      {.id = 100, .prompt = prompt_of(static_cast<int32_t>(length), 5), .max_new_tokens = 3});
  for (int64_t steps = 1; steps < 100; ++steps) {
    commit_scored(scheduler, scheduler.next_step());
    if (scheduler.find(100)->num_new_tokens() > 0) return steps;
  }
  return 100;
}

TEST(ScoredPrompt, Q_9_ItDelaysTheFirstTokenOfANewcomerByOneStepAtMost) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    const int64_t without = steps_of_newcomer(seed, false);
    EXPECT_LE(steps_of_newcomer(seed, true), without + 1) << "seed " << seed;
  }
}

TEST(ScoredPrompt, WithNothingToGenerateEndsWithItsPrompt) {
  for (const int32_t length : {1, 2, 40}) {
    Scheduler scheduler({.groups = {{.num_blocks = 2}}});
    scheduler.add({.id = 1, .prompt = prompt_of(length), .score_prompt = true});
    Recorded recorded;
    while (recorded.ends.empty()) recorded = commit_scored(scheduler, scheduler.next_step());
    EXPECT_EQ(recorded.ends[0].reason, EndReason::kLength);
    EXPECT_THAT(recorded.num_tokens, ElementsAre(0));
    EXPECT_EQ(scheduler.find(1), nullptr);
    EXPECT_EQ(scheduler.counts().held_blocks, 0);
  }
}

TEST(ScoredPrompt, TakesNothingFromThePrefixCacheAndGivesToIt) {
  Scheduler scheduler({.groups = {{.num_blocks = 16}}});
  const auto hit = [&](bool score) {
    scheduler.add({.id = 1, .prompt = prompt_of(70), .max_new_tokens = 1, .score_prompt = score});
    StepPlan plan = scheduler.next_step();
    const int32_t tokens = scheduler.find(1)->num_prefix_hit_tokens;
    for (; !plan.empty(); plan = scheduler.next_step()) commit_scored(scheduler, plan);
    return tokens;
  };
  EXPECT_EQ(hit(true), 0);
  EXPECT_EQ(hit(true), 0) << "it would go without scores";
  EXPECT_EQ(hit(false), 64);
}

TEST(Priority, Q_9_LowerNumbersAreAdmittedFirstAndEqualOnesInOrder) {
  Scheduler scheduler({.max_sequences = 1, .groups = {{.num_blocks = 64}}});
  scheduler.add({.id = 1, .prompt = prompt_of(3), .max_new_tokens = 2, .priority = 100});
  StepPlan plan = scheduler.next_step();
  scheduler.add({.id = 2, .prompt = prompt_of(3), .max_new_tokens = 2, .priority = 5});
  scheduler.add({.id = 3, .prompt = prompt_of(3), .max_new_tokens = 2});
  scheduler.add({.id = 4, .prompt = prompt_of(3), .max_new_tokens = 2, .priority = -100});
  scheduler.add({.id = 5, .prompt = prompt_of(3), .max_new_tokens = 2});
  std::vector<SequenceId> order;
  for (; !plan.empty(); plan = scheduler.next_step()) {
    ASSERT_EQ(plan.rows.size(), 1u);
    if (order.empty() || order.back() != plan.rows[0].sequence) {
      order.push_back(plan.rows[0].sequence);
    }
    commit_scored(scheduler, plan);
  }
  EXPECT_THAT(order, ElementsAre(1, 4, 3, 5, 2)) << "who runs is not put off";
  EXPECT_EQ(scheduler.counts().preemptions, 0);
}

}  // namespace
}  // namespace tidemill

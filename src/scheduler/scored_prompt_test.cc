// Prompts whose own tokens are scored, and the order of admission by priority.
#include "scheduler/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "scheduler/sequence.h"

namespace tidemill {
namespace {

using testing::ElementsAre;

std::vector<TokenId> prompt_of(int32_t length, TokenId first = 100) {
  std::vector<TokenId> tokens(static_cast<size_t>(length));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

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

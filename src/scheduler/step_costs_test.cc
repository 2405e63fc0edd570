// Steps whose time is limited: what a plan costs by the numbers that the scheduler was given.
#include "scheduler/step_costs.h"

#include <gtest/gtest.h>

#include <map>

#include "scheduler/prefix_cache.h"
#include "scheduler/scheduler.h"
#include "scheduler/sequence.h"
#include "scheduler/test_steps.h"

namespace tidemill {
namespace {

// Decodes cost 1 each and their keys 0.001, a token of a prompt 0.1 and its keys 0.0001.
constexpr StepCosts kCosts{.limit = 40.0,
                           .fixed = 10.0,
                           .decode_token = 1.0,
                           .decode_key = 0.001,
                           .prompt_token = 0.1,
                           .prompt_key = 0.0001};

class LimitedSteps : public testing::Test {
 protected:
  explicit LimitedSteps(int64_t window = 0)
      : scheduler_({.max_sequences = 64,
                    .max_step_tokens = 2048,
                    .window = window,
                    .prefix_cache = false,
                    .groups = {{.num_blocks = 20'000}}}) {}

  void add(int prompt_tokens, int new_tokens) {
    scheduler_.add({.id = next_id_,
                    .prompt = prompt_of(prompt_tokens, static_cast<TokenId>(next_id_ * 10'000)),
                    .max_new_tokens = new_tokens});
    ++next_id_;
  }
  StepPlan step(const StepCosts& costs) {
    const StepPlan plan = scheduler_.next_step(costs);
    scheduler_.commit(answer(plan));
    scheduler_.check_invariants();
    return plan;
  }
  // Of a prompt that is alone, until less of it is left than a step might take.
  void expect_full_steps(int64_t prompt_tokens, const StepCosts& costs) {
    for (int64_t done = 0; done + 400 < prompt_tokens;) {
      const StepPlan plan = step(costs);
      ASSERT_EQ(plan.rows.size(), 1u);
      EXPECT_LE(cost_of(plan.work(), costs), costs.limit);
      StepPlan more = plan;
      more.rows[0].num_tokens += kBlockTokens;
      EXPECT_GT(cost_of(more.work(), costs), costs.limit);
      EXPECT_EQ(plan.rows[0].num_tokens % kBlockTokens, 0);
      done += plan.rows[0].num_tokens;
    }
  }
  static int64_t num_prompt_tokens(const StepPlan& plan) {
    return static_cast<int64_t>(plan.work().prompt_tokens);
  }

  Scheduler scheduler_;
  SequenceId next_id_ = 1;
};

TEST_F(LimitedSteps, WorkOfAPlanCountsTokensAndTheKeysThatTheyAttend) {
  const StepPlan plan{
      .rows = {{.sequence = 1, .first_position = 9, .num_tokens = 1, .num_score_rows = 1},
               {.sequence = 2, .first_position = 4, .num_tokens = 3}}};
  const StepWork work = plan.work();
  EXPECT_EQ(work.decode_tokens, 1.0);
  EXPECT_EQ(work.decode_keys, 10.0);
  EXPECT_EQ(work.prompt_tokens, 3.0);
  EXPECT_EQ(work.prompt_keys, 5.0 + 6.0 + 7.0);
  EXPECT_DOUBLE_EQ(cost_of(work, kCosts), 10.0 + 1.0 + 0.01 + 0.3 + 0.0018);
}

TEST_F(LimitedSteps, NoTokenCountsMoreKeysThanItsWindowHas) {
  for (const int32_t first : {0, 3, 7, 8, 9, 500}) {
    for (const int32_t tokens : {1, 2, 5, 40}) {
      int64_t expected = 0;
      for (int64_t p = first; p < first + tokens; ++p) expected += std::min<int64_t>(p + 1, 8);
      const PlanRow row{.sequence = 1, .first_position = first, .num_tokens = tokens};
      EXPECT_EQ(row.num_keys(8), expected) << first << ", " << tokens;
      const StepWork work = StepPlan{.rows = {row}, .window = 8}.work();
      EXPECT_EQ(work.prompt_keys, static_cast<double>(expected));
    }
  }
}

// As much as fits, and not a block more: with the keys, whose number grows along the prompt.
TEST_F(LimitedSteps, PromptsTakeTheBlocksThatTheTimeLeaves) {
  add(4096, 4);
  expect_full_steps(4096, kCosts);
}

// Chunks that end before it, that cross it, and that begin behind it.
class LimitedStepsOfAWindow : public LimitedSteps {
 protected:
  static constexpr int64_t kWindow = 700;
  LimitedStepsOfAWindow() : LimitedSteps(kWindow) {}
};

TEST_F(LimitedStepsOfAWindow, PromptsTakeTheBlocksThatTheTimeLeaves) {
  add(8192, 4);
  StepCosts costs = kCosts;
  costs.prompt_key = 0.001;  // of a window: seven times the token itself
  expect_full_steps(8192, costs);
}

TEST_F(LimitedStepsOfAWindow, CostsOfNothingLimitNothing) {
  add(4096, 4);
  EXPECT_EQ(num_prompt_tokens(step({.limit = 1.0, .fixed = 2.0})), 2048);
}

TEST_F(LimitedStepsOfAWindow, DecodesCountItAlone) {
  add(2000, 40);
  StepPlan plan = step({});
  while (plan.work().decode_tokens == 0.0) plan = step({});
  EXPECT_EQ(step({}).work().decode_keys, static_cast<double>(kWindow));
}

TEST_F(LimitedSteps, WithoutALimitNothingIsHeldBack) {
  add(4096, 4);
  EXPECT_EQ(num_prompt_tokens(step({})), 2048);
}

// Decodes alone take more than a step may: they are not held back, and prompts go on by a block.
TEST_F(LimitedSteps, EveryPromptProgressesHoweverLittleTimeThereIs) {
  for (int i = 0; i < 40; ++i) add(8, 400);
  for (int i = 0; i < 4 && step({}).work().decode_tokens < 40; ++i) {
  }
  for (int i = 0; i < 3; ++i) add(100, 4);
  std::map<SequenceId, int64_t> progress;
  for (int i = 0; i < 12; ++i) {
    const StepPlan plan = step(kCosts);
    EXPECT_GE(plan.work().decode_tokens, 40.0);
    EXPECT_GT(num_prompt_tokens(plan) + (i >= 9), 0);
    EXPECT_LE(num_prompt_tokens(plan), kBlockTokens);
    for (const PlanRow& row : plan.rows) {
      if (row.sequence > 40 && row.first_position < 100) progress[row.sequence] += row.num_tokens;
    }
  }
  EXPECT_EQ(progress, (std::map<SequenceId, int64_t>{{41, 100}, {42, 100}, {43, 100}}));
}

TEST_F(LimitedSteps, ASecondPromptOnlyTakesWhatTheFirstLeaves) {
  add(40, 4);    // 4 of the 30 that are left
  add(4096, 4);  // nearly all the rest
  add(4096, 4);
  const StepPlan plan = step(kCosts);
  ASSERT_EQ(plan.rows.size(), 2u);
  EXPECT_EQ(plan.rows[0].num_tokens, 40);
  EXPECT_EQ(plan.rows[1].num_tokens % kBlockTokens, 0);
  EXPECT_LE(cost_of(plan.work(), kCosts), kCosts.limit);
}

TEST_F(LimitedSteps, PromptsTogetherTakeNoMoreTokensThanTheyMay) {
  add(40, 4);
  add(4096, 4);
  add(4096, 4);
  StepCosts costs = kCosts;
  costs.most_prompt_tokens = 140.0;
  const StepPlan plan = step(costs);
  ASSERT_EQ(plan.rows.size(), 2u);
  EXPECT_EQ(plan.rows[0].num_tokens, 40);
  EXPECT_EQ(plan.rows[1].num_tokens, 96);
  costs.most_prompt_tokens = 1.0;
  EXPECT_EQ(num_prompt_tokens(step(costs)), kBlockTokens);
}

TEST_F(LimitedSteps, CostsOfNothingLimitNothing) {
  add(4096, 4);
  EXPECT_EQ(num_prompt_tokens(step({.limit = 1.0})), 2048);
}

}  // namespace
}  // namespace tidemill

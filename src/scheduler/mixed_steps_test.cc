// Steps in which decodes wait for chunks of prompts: how much of a prompt they wait for.
#include <gtest/gtest.h>

#include <numeric>

#include "scheduler/scheduler.h"
#include "scheduler/sequence.h"

namespace tidemill {
namespace {

class Steps {
 public:
  explicit Steps(int32_t mixed_step_tokens)
      : scheduler_({.max_sequences = 256,
                    .max_step_tokens = 512,
                    .mixed_step_tokens = mixed_step_tokens,
                    .min_chunk_tokens = chunk_of_mixed_step(mixed_step_tokens),
                    .prefix_cache = false,
                    .groups = {{.num_blocks = 10'000}}}) {}

  void add(int prompt_tokens, int new_tokens = 500) {
    std::vector<TokenId> prompt(static_cast<size_t>(prompt_tokens));
    std::iota(prompt.begin(), prompt.end(), static_cast<TokenId>(++id_ * 10'000));
    scheduler_.add({.id = id_, .prompt = std::move(prompt), .max_new_tokens = new_tokens});
  }
  StepPlan step() {
    StepPlan plan = scheduler_.next_step();
    StepResult result;
    for (const PlanRow& row : plan.rows) {
      if (row.num_score_rows > 0) {
        result.rows.push_back({.sequence = row.sequence, .accepted = {{.token = 7}}});
      }
    }
    scheduler_.commit(result);
    scheduler_.check_invariants();
    return plan;
  }
  void add_decodes(int count) {
    for (int i = 0; i < count; ++i) add(1);
    EXPECT_EQ(step().num_tokens(), count);
  }

 private:
  Scheduler scheduler_;
  SequenceId id_ = 0;
};

class MixedSteps : public testing::Test, protected Steps {
 protected:
  explicit MixedSteps(int32_t mixed_step_tokens = 128) : Steps(mixed_step_tokens) {}
};

TEST_F(MixedSteps, PromptsAloneTakeTheWholeStep) {
  add(700);
  EXPECT_EQ(step().num_tokens(), 512);
}

TEST_F(MixedSteps, DecodesWaitForWhatIsLeftOfTheSmallerBudget) {
  add_decodes(10);
  add(700);
  EXPECT_EQ(step().num_tokens(), 10 + 96) << "whole blocks of 118";
  add(22);  // of 22 that are left the next prompt needs all
  EXPECT_EQ(step().num_tokens(), 128);
  EXPECT_EQ(step().num_tokens(), 11 + 96);
}

// 64 of a prompt, though the decodes alone are more than the budget; the second prompt waits.
TEST_F(MixedSteps, APromptProgressesBesideAnyNumberOfDecodes) {
  add_decodes(150);
  add(300);
  add(300);
  for (const int64_t chunk : {64, 64, 64}) EXPECT_EQ(step().num_tokens(), 150 + chunk);
}

class SmallMixedSteps : public MixedSteps {
 protected:
  SmallMixedSteps() : MixedSteps(64) {}
};

TEST_F(SmallMixedSteps, ChunksAreSmallerToo) {
  add_decodes(16);
  add(300);
  EXPECT_EQ(step().num_tokens(), 16 + 32) << "whole blocks of 48";
}

TEST_F(SmallMixedSteps, HalfOfTheBudgetGoesToAPromptBesideAnyNumberOfDecodes) {
  add_decodes(56);
  add(300);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(step().num_tokens(), 56 + 32);
}

// A chunk is whole blocks: what is left of any budget has to hold the least of them.
TEST(MixedStepsOfAnySize, PromptsProgressBesideAnyNumberOfDecodes) {
  for (int32_t mixed = 1; mixed <= 200; mixed += 3) {
    for (const int decodes : {1, 7, 17, 33, 64, 120}) {
      SCOPED_TRACE(testing::Message() << mixed << " tokens, " << decodes << " decodes");
      Steps steps(mixed);
      steps.add_decodes(decodes);
      steps.add(300);
      EXPECT_GT(steps.step().num_tokens(), decodes);
      EXPECT_GT(steps.step().num_tokens(), decodes);
    }
  }
}

TEST_F(MixedSteps, ABudgetBeyondThatOfAStepDoesNotRaiseIt) {
  Scheduler scheduler({.max_sequences = 4,
                       .max_step_tokens = 64,
                       .mixed_step_tokens = 4096,
                       .groups = {{.num_blocks = 100}}});
  scheduler.add({.id = 1, .prompt = {1}, .max_new_tokens = 9});
  scheduler.commit(
      {.rows = {{.sequence = scheduler.next_step().rows[0].sequence, .accepted = {{.token = 7}}}}});
  scheduler.add({.id = 2, .prompt = std::vector<TokenId>(900, 5), .max_new_tokens = 9});
  EXPECT_EQ(scheduler.next_step().num_tokens(), 1 + 32);
}

}  // namespace
}  // namespace tidemill

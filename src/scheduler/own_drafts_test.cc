// A scheduler whose sequences draft from their own text.
#include <gtest/gtest.h>

#include <algorithm>

#include "scheduler/scheduler.h"
#include "scheduler/sequence.h"

namespace tidemill {
namespace {

// Answers whatever is planned for them with 1, 2, 3, ... from the first token on.
void count_on(Scheduler& scheduler, const StepPlan& plan) {
  StepResult result;
  for (const PlanRow& row : plan.rows) {
    if (row.num_score_rows == 0) continue;
    const Sequence& sequence = *scheduler.find(row.sequence);
    RowResult& of_row = result.rows.emplace_back();
    of_row.sequence = row.sequence;
    for (int32_t i = 0; i < row.num_choice_rows(); ++i) {
      const TokenId token = (row.first_position + row.num_tokens - row.num_choice_rows() + i) % 10;
      of_row.accepted.push_back({.token = token});
      const auto draft = static_cast<size_t>(i);
      if (draft < sequence.drafts.size() && sequence.drafts[draft] != token) break;
    }
  }
  scheduler.commit(result);
}

// Prompts that count, too.
NewSequence counting(SequenceId id, int32_t max_new_tokens) {
  NewSequence sequence{.id = id, .max_new_tokens = max_new_tokens};
  for (TokenId i = 0; i < 40; ++i) sequence.prompt.push_back((i + 9) % 10);
  return sequence;
}

SchedulerOptions speculating(std::string how, int32_t free_tokens) {
  SchedulerOptions options{.groups = {{.num_blocks = 100}}};
  options.speculative = std::move(how);
  options.free_tokens = options.level_tokens = free_tokens;
  return options;
}

TEST(OwnDrafts, ATextThatRepeatsItselfDraftsItselfAndEndsAtItsLength) {
  Scheduler scheduler(speculating("ngram", 9));
  scheduler.add(counting(1, 100));
  int num_steps = 0;
  int32_t most = 0;
  for (; scheduler.find(1) != nullptr; ++num_steps) {
    const StepPlan plan = scheduler.next_step();
    if (num_steps > 0) most = std::max(most, plan.rows.at(0).num_score_rows);
    ASSERT_LE(plan.rows.at(0).first_position + plan.rows.at(0).num_tokens, 139);
    count_on(scheduler, plan);
    scheduler.check_invariants();
  }
  EXPECT_LT(num_steps, 25);
  EXPECT_EQ(most, 9) << "as many as are free";
  const SchedulerCounts counts = scheduler.counts();
  EXPECT_EQ(counts.accepted_draft_tokens, 100 - num_steps);
  EXPECT_EQ(counts.draft_tokens, counts.accepted_draft_tokens);
  EXPECT_GT(counts.draft_rows, 0);
  EXPECT_LT(counts.draft_rows, num_steps);
}

TEST(OwnDrafts, TheyShareTheTokensThatAreFree) {
  for (const int32_t num_sequences : {1, 3, 5, 8, 9, 20}) {
    Scheduler scheduler(speculating("auto", 16));
    for (SequenceId id = 1; id <= num_sequences; ++id) scheduler.add(counting(id, 200));
    int32_t most = 0;
    for (int step = 0; step < 40; ++step) {
      const StepPlan plan = scheduler.next_step();
      if (step > 2) {
        EXPECT_LE(plan.num_tokens(), std::max(16, num_sequences));
        for (const PlanRow& row : plan.rows) most = std::max(most, row.num_score_rows - 1);
      }
      count_on(scheduler, plan);
    }
    EXPECT_EQ(most, std::max(0, 16 / num_sequences - 1)) << num_sequences;
  }
}

TEST(OwnDrafts, TheyComeOnlyWhereTheyAreAskedForOrKnownToBeFree) {
  for (const auto& [how, free_tokens] :
       {std::pair("auto", 0), std::pair("off", 64), std::pair("auto", 1)}) {
    const SchedulerOptions options = speculating(how, free_tokens);
    EXPECT_EQ(options.max_score_rows(), options.max_sequences);
    Scheduler scheduler(options);
    scheduler.add(counting(1, 100));
    while (scheduler.find(1) != nullptr) count_on(scheduler, scheduler.next_step());
    EXPECT_EQ(scheduler.counts().draft_tokens, 0);
  }
  EXPECT_EQ(speculating("ngram", 0).max_score_rows(), 32 + 15);
}

TEST(OwnDrafts, AutoGoesByWhatIsLevelAndNgramByWhatIsFree) {
  for (const auto& [how, most] : {std::pair("auto", 3), std::pair("ngram", 11)}) {
    SchedulerOptions options = speculating(how, 12);
    options.level_tokens = 4;
    EXPECT_EQ(options.speculative_tokens(), most + 1);
    EXPECT_GE(options.most_score_rows(), options.max_score_rows());
    Scheduler scheduler(options);
    scheduler.add(counting(1, 200));
    int32_t drafts = 0;
    for (int step = 0; scheduler.find(1) != nullptr; ++step) {
      const StepPlan plan = scheduler.next_step();
      if (step > 0) drafts = std::max(drafts, plan.rows.at(0).num_score_rows - 1);
      count_on(scheduler, plan);
    }
    EXPECT_EQ(drafts, most);
  }
}

TEST(OwnDrafts, I8_TheyLeaveHalfOfAStepToPrompts) {
  SchedulerOptions options = speculating("ngram", 64);
  options.max_step_tokens = 16;
  Scheduler scheduler(options);
  scheduler.add(counting(1, 200));
  for (int step = 0; step < 30; ++step) count_on(scheduler, scheduler.next_step());
  scheduler.add(counting(2, 1));
  int num_steps = 0;
  for (; scheduler.find(2) != nullptr; ++num_steps) {
    const StepPlan plan = scheduler.next_step();
    EXPECT_LE(plan.rows.at(0).num_tokens, 8);
    count_on(scheduler, plan);
  }
  EXPECT_LE(num_steps, 6);
}

}  // namespace
}  // namespace tidemill

// A scheduler whose sequences have drafts of a draft model.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "scheduler/draft_costs.h"
#include "scheduler/prefix_cache.h"
#include "scheduler/scheduler.h"
#include "scheduler/sequence.h"
#include "scheduler/test_steps.h"

namespace tidemill {
namespace {

// What a text says at a position: nothing that it could draft itself.
TokenId said(int32_t position) { return (position * position * 7 + position / 3) % 1009; }

NewSequence of_length(SequenceId id, int32_t length, int32_t max_new_tokens) {
  NewSequence sequence{.id = id, .max_new_tokens = max_new_tokens};
  for (int32_t i = 0; i < length; ++i) sequence.prompt.push_back(said(i));
  return sequence;
}

SchedulerOptions with_model(double cost = 0.1) {
  SchedulerOptions options{.groups = {{.num_blocks = 100}}};
  options.step_growth.assign(32, 1.0);
  for (size_t n = 1; n < 32; ++n) options.step_growth[n] = 1.0 + 0.01 * static_cast<double>(n);
  options.draft_model_cost = cost;
  options.draft_model_len = 4096;
  return options;
}

// A step whose drafts are right but for every `wrong`-th position (0: all are); its plan.
StepPlan turn(Scheduler& scheduler, int32_t wrong = 0) {
  const StepPlan plan = scheduler.next_step();
  scheduler.check_invariants();
  std::vector<TokenId> drafts;
  for (const DraftRow& row : plan.draft_rows) {
    for (int32_t i = 0; i < row.num_drafts; ++i) {
      const int32_t position = row.first_position + row.num_tokens + i;
      const bool is_wrong = wrong > 0 && position % wrong == 0;
      drafts.push_back(said(position) + (is_wrong ? 2000 : 0));
    }
  }
  if (!plan.draft_rows.empty()) scheduler.supply_drafts(drafts);
  scheduler.commit(answer_by(scheduler, plan, said));
  scheduler.check_invariants();
  return plan;
}

TEST(DraftModel, SeesThePromptBeforeItsFirstDraftsAndThenWhatIsNew) {
  Scheduler scheduler(with_model());
  scheduler.add(of_length(1, 40, 100));
  EXPECT_TRUE(turn(scheduler).draft_rows.empty()) << "the first token comes without it";
  StepPlan plan = turn(scheduler);
  ASSERT_EQ(plan.draft_rows.size(), 1u);
  const int32_t drafts = plan.draft_rows[0].num_drafts;
  EXPECT_GT(drafts, 1);
  EXPECT_EQ(plan.draft_rows[0].first_position, 0);
  EXPECT_EQ(plan.draft_rows[0].num_tokens, 41);
  EXPECT_EQ(plan.rows[0].num_tokens, 1 + drafts);
  // All were right: the last of them it has not seen yet, and the token behind it.
  plan = turn(scheduler);
  EXPECT_EQ(plan.draft_rows[0].first_position, 40 + drafts);
  EXPECT_EQ(plan.draft_rows[0].num_tokens, 2);
  int num_steps = 3;
  for (; scheduler.find(1) != nullptr; ++num_steps) turn(scheduler);
  EXPECT_LT(num_steps, 30) << "of 100 tokens";
  const SchedulerCounts counts = scheduler.counts();
  EXPECT_EQ(counts.draft_tokens, counts.accepted_draft_tokens);
}

TEST(DraftModel, WhatItSaidWronglyItSeesAnew) {
  Scheduler scheduler(with_model());
  scheduler.add(of_length(1, 60, 200));
  int32_t next = 0;  // that it has not seen
  for (StepPlan plan = turn(scheduler, 7); scheduler.find(1) != nullptr;
       plan = turn(scheduler, 7)) {
    if (plan.draft_rows.empty()) continue;
    const DraftRow& row = plan.draft_rows[0];
    EXPECT_EQ(row.first_position, next);
    const int32_t cached = scheduler.find(1)->num_cached_tokens;
    // Up to its last draft but one, and up to where it was wrong.
    next = std::min(row.first_position + row.num_tokens + row.num_drafts - 1, cached);
  }
  EXPECT_GT(scheduler.counts().accepted_draft_tokens, 100);
  EXPECT_GT(scheduler.counts().draft_tokens, scheduler.counts().accepted_draft_tokens);
}

TEST(DraftModel, APrefixThatIsFoundIsFoundForIt) {
  Scheduler scheduler(with_model());
  scheduler.add(of_length(1, 96, 50));
  while (scheduler.find(1) != nullptr) turn(scheduler);
  scheduler.add(of_length(2, 100, 50));
  StepPlan plan = turn(scheduler);
  EXPECT_GE(plan.rows[0].first_position, 96);
  plan = turn(scheduler);
  ASSERT_EQ(plan.draft_rows.size(), 1u);
  EXPECT_GE(plan.draft_rows[0].first_position, 96);
}

TEST(DraftModel, WhereOthersWaitItSeesALongPromptInPartsAndDraftsBehindThem) {
  SchedulerOptions options = with_model();
  options.mixed_step_tokens = 64;
  Scheduler scheduler(options);
  scheduler.add(of_length(1, 200, 100));
  scheduler.add(of_length(2, 200, 100));
  std::vector<int32_t> seen(3, 0);
  bool drafted = false;
  for (int step = 0; step < 30; ++step) {
    const StepPlan plan = turn(scheduler);
    int32_t tokens = 0;
    for (const DraftRow& row : plan.draft_rows) {
      auto& of = seen[static_cast<size_t>(row.sequence)];
      EXPECT_TRUE(row.num_drafts == 0 || row.first_position + row.num_tokens > 200);
      EXPECT_EQ(row.num_drafts == 0 ? row.first_position : of, of);
      of = row.first_position + row.num_tokens;
      tokens += row.num_tokens;
      drafted |= row.num_drafts > 0;
    }
    EXPECT_LE(tokens, 64);
  }
  EXPECT_TRUE(drafted);
}

// 0.1 (1 + 0.2 * 1000) = 20 steps, and it is expected to be 1.4 times as fast: 50 tokens.
TEST(DraftModel, AShortAnswerToALongPromptComesWithoutIt) {
  SchedulerOptions options = with_model();
  for (size_t n = 1; n < 32; ++n) options.step_growth[n] = 1.0 + 0.2 * static_cast<double>(n);
  options.prefix_cache = false;
  options.max_step_tokens = 2048;
  for (const int32_t length : {30, 100, 400}) {
    Scheduler scheduler(options);
    scheduler.add(of_length(1, 1000, length));
    int32_t first = 0;  // the token before which it was asked
    while (scheduler.find(1) != nullptr) {
      const int32_t said = scheduler.find(1)->num_new_tokens();
      if (!turn(scheduler).draft_rows.empty() && first == 0) first = said;
    }
    if (length < 400) {
      EXPECT_EQ(first, 0) << "it could not pay for itself any more";
    } else {
      EXPECT_GT(first, 30);
      EXPECT_LT(first, 100);
    }
  }
}

TEST(DraftModel, MakesNoDraftsBehindTheLastOfItsPositions) {
  SchedulerOptions options = with_model();
  options.draft_model_len = 64;
  Scheduler scheduler(options);
  scheduler.add(of_length(1, 50, 60));
  bool drafted = false;
  while (scheduler.find(1) != nullptr) {
    for (const DraftRow& row : turn(scheduler).draft_rows) {
      EXPECT_LE(row.first_position + row.num_tokens + row.num_drafts - 1, 64);
      drafted |= row.num_drafts > 0;
    }
  }
  EXPECT_TRUE(drafted);
}

TEST(DraftModel, WhoseDraftsAreWrongHasFewOfThem) {
  Scheduler scheduler(with_model(0.3));
  scheduler.add(of_length(1, 10, 1000));
  int num_steps = 0;
  for (; scheduler.find(1) != nullptr; ++num_steps) turn(scheduler, 1);
  EXPECT_EQ(num_steps, 1000);
  EXPECT_GT(scheduler.counts().draft_tokens, 0);
  EXPECT_LT(scheduler.counts().draft_tokens, 150);
}

TEST(DraftModel, ACrowdIsNoReasonToRest) {
  SchedulerOptions options = with_model(0.2);
  for (size_t n = 1; n < 32; ++n) options.step_growth[n] = 1.0 + 0.15 * static_cast<double>(n);
  Scheduler scheduler(options);
  scheduler.add(of_length(1, 10, 400));
  for (int step = 0; step < 20; ++step) turn(scheduler, 2);  // every other one is wrong
  for (SequenceId id = 2; id <= 20; ++id) scheduler.add(of_length(id, 10 + 32, 20));
  while (scheduler.find(20) != nullptr) turn(scheduler, 2);
  int32_t waited = 0;
  while (turn(scheduler, 2).draft_rows.empty()) ++waited;
  EXPECT_LT(waited, DraftChance::kLeastRest);
}

// 96 tokens of the same prompt: whoever comes second finds what the first one computes.
TEST(DraftModel, OfTwoThatShareBlocksOneComputesThem) {
  SchedulerOptions options = with_model();
  options.mixed_step_tokens = 100;
  Scheduler scheduler(options);
  scheduler.add(of_length(1, 100, 80));
  turn(scheduler);
  NewSequence second = of_length(2, 100, 80);
  second.prompt[98] += 3000;
  scheduler.add(std::move(second));
  int64_t seen = 0;
  for (int step = 0; step < 12; ++step) {
    for (const DraftRow& row : turn(scheduler).draft_rows) {
      if (row.num_tokens > 16) seen += row.num_tokens;
    }
  }
  EXPECT_GE(seen, 96);
  EXPECT_LT(seen, 150) << "not twice the 96 that they share";
}

TEST(DraftModel, ACrowdHasNone) {
  Scheduler scheduler(with_model());
  for (SequenceId id = 1; id <= 32; ++id) scheduler.add(of_length(id, 10, 20));
  for (int step = 0; step < 10; ++step) EXPECT_TRUE(turn(scheduler).draft_rows.empty());
}

TEST(DraftModel, WhereItIsOffOrNeedsTooLongThereAreNone) {
  SchedulerOptions off = with_model();
  off.speculative = "off";
  for (const SchedulerOptions& options : {off, with_model(1.5)}) {
    Scheduler scheduler(options);
    scheduler.add(of_length(1, 10, 20));
    while (scheduler.find(1) != nullptr) EXPECT_TRUE(turn(scheduler).draft_rows.empty());
  }
}

TEST(DraftModel, WithoutACalibrationAFewTokensAreTakenForFree) {
  SchedulerOptions options = with_model();
  options.step_growth.clear();
  EXPECT_EQ(options.speculative_tokens(), 16);
  EXPECT_GE(options.most_score_rows(), options.max_score_rows());
  Scheduler scheduler(options);
  scheduler.add(of_length(1, 10, 40));
  turn(scheduler);
  EXPECT_EQ(turn(scheduler).draft_rows.size(), 1u);
}

TEST(DraftModel, APlanThatIsDroppedIsPlannedAgain) {
  Scheduler scheduler(with_model());
  scheduler.add(of_length(1, 40, 60));
  turn(scheduler);
  const StepPlan dropped = scheduler.next_step();
  scheduler.drop_plan();
  EXPECT_TRUE(scheduler.find(1)->drafts.empty());
  EXPECT_EQ(turn(scheduler), dropped);
}

TEST(DraftModel, ItsDraftsAreWrittenIntoNobodyElsesBlocksWhenMemoryIsShort) {
  SchedulerOptions options = with_model();
  options.groups = {{.num_blocks = 9}};
  options.prefix_cache = false;
  Scheduler scheduler(options);
  for (SequenceId id = 1; id <= 4; ++id) {
    scheduler.add(of_length(id, 40 + 3 * static_cast<int32_t>(id), 120));
  }
  for (int step = 0; step < 2000 && scheduler.find(4) != nullptr; ++step) turn(scheduler, 5);
  EXPECT_EQ(scheduler.find(4), nullptr);
  EXPECT_GT(scheduler.counts().preemptions, 0);
  EXPECT_GT(scheduler.counts().accepted_draft_tokens, 0);
}

}  // namespace
}  // namespace tidemill

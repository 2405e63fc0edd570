#include "scheduler/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "scheduler/sequence.h"
#include "scheduler/test_steps.h"

namespace tidemill {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

PlanRow prefill(SequenceId id, int32_t first, int32_t tokens, bool logits) {
  return {.sequence = id,
          .first_position = first,
          .num_tokens = tokens,
          .num_score_rows = logits ? 1 : 0};
}
PlanRow decode(SequenceId id, int32_t position) { return prefill(id, position, 1, true); }

SchedulerOptions with_blocks(int64_t num_blocks) {
  return {.max_step_drafts = 32, .groups = {{.num_blocks = num_blocks}}};
}

// Runs steps until nothing can run; the ends in order.
std::vector<SequenceEnd> run_dry(Scheduler& scheduler) {
  std::vector<SequenceEnd> ends;
  for (StepPlan plan = scheduler.next_step(); !plan.empty(); plan = scheduler.next_step()) {
    for (const SequenceEnd& end : scheduler.commit(answer(plan)).ends) ends.push_back(end);
    scheduler.check_invariants();
  }
  return ends;
}

TEST(Scheduler, PromptLongerThanTheStepIsPrefilledInChunks) {
  SchedulerOptions options = with_blocks(8);
  options.max_step_tokens = 8;
  Scheduler scheduler(options);
  scheduler.add({.id = 1, .prompt = prompt_of(10), .max_new_tokens = 4});
  EXPECT_THAT(scheduler.next_step().rows, ElementsAre(prefill(1, 0, 8, false)));
  scheduler.commit({});
  EXPECT_THAT(scheduler.next_step().rows, ElementsAre(prefill(1, 8, 2, true)));
}

TEST(Scheduler, DecodesGoFirstAndPrefillRidesAlong) {
  Scheduler scheduler(with_blocks(64));
  scheduler.add({.id = 1, .prompt = prompt_of(5), .max_new_tokens = 9});
  scheduler.commit(answer(scheduler.next_step()));
  scheduler.add({.id = 2, .prompt = prompt_of(40, 500), .max_new_tokens = 9});
  EXPECT_THAT(scheduler.next_step().rows, ElementsAre(decode(1, 5), prefill(2, 0, 40, true)));
}

TEST(Scheduler, ChunksAreWholeBlocksOfAtLeastTheMinimum) {
  SchedulerOptions options = with_blocks(64);
  options.max_step_tokens = 100;
  Scheduler scheduler(options);
  scheduler.add({.id = 1, .prompt = prompt_of(5), .max_new_tokens = 99});
  scheduler.commit(answer(scheduler.next_step()));
  scheduler.add({.id = 2, .prompt = prompt_of(300, 500), .max_new_tokens = 9});
  EXPECT_THAT(scheduler.next_step().rows, ElementsAre(decode(1, 5), prefill(2, 0, 96, false)));
}

TEST(Scheduler, APromptGoesOnBesideDecodesHoweverSmallTheStep) {
  for (const auto& [max_step_tokens, chunk] : {std::pair{96, 64}, {64, 32}, {32, 31}, {8, 7}}) {
    SchedulerOptions options = with_blocks(64);
    options.max_step_tokens = max_step_tokens;
    Scheduler scheduler(options);
    scheduler.add({.id = 1, .prompt = prompt_of(5), .max_new_tokens = 99});
    scheduler.commit(answer(scheduler.next_step()));
    scheduler.add({.id = 2, .prompt = prompt_of(300, 500), .max_new_tokens = 9});
    EXPECT_THAT(scheduler.next_step().rows, ElementsAre(decode(1, 5), prefill(2, 0, chunk, false)))
        << max_step_tokens;
  }
}

TEST(Scheduler, Q_9_I8_NoMoreSequencesRunThanAllowedAndFreedPlacesAreFilledAtOnce) {
  SchedulerOptions options = with_blocks(64);
  options.max_sequences = 2;
  Scheduler scheduler(options);
  for (SequenceId id = 1; id <= 3; ++id) {
    scheduler.add(
        {.id = id, .prompt = prompt_of(4, static_cast<TokenId>(id * 1000)), .max_new_tokens = 2});
  }
  const StepPlan first = scheduler.next_step();
  EXPECT_EQ(first.rows.size(), 2u);
  scheduler.commit(answer(first));
  scheduler.cancel(1);
  EXPECT_THAT(scheduler.next_step().rows, ElementsAre(decode(2, 4), prefill(3, 0, 4, true)));
}

TEST(Scheduler, TheEndIsDecidedByIdsAndLengths) {
  Scheduler scheduler(with_blocks(64));
  scheduler.add({.id = 1, .prompt = {1}, .max_new_tokens = 5, .end_ids = {7}});
  scheduler.add({.id = 2, .prompt = {2}, .max_new_tokens = 5, .stop_ids = {7}});
  scheduler.add({.id = 3, .prompt = {3}, .max_new_tokens = 2});
  scheduler.add({.id = 4, .prompt = {4}, .max_new_tokens = 9, .min_new_tokens = 2, .end_ids = {7}});
  std::map<SequenceId, EndReason> reasons;
  std::map<SequenceId, size_t> order;
  for (const SequenceEnd& end : run_dry(scheduler)) {
    order.emplace(end.id, order.size());
    reasons[end.id] = end.reason;
  }
  EXPECT_EQ(reasons[1], EndReason::kEndToken);
  EXPECT_EQ(reasons[2], EndReason::kStopToken);
  EXPECT_EQ(reasons[3], EndReason::kLength);
  EXPECT_EQ(reasons[4], EndReason::kEndToken);
  EXPECT_EQ(order[4], 3u) << "two tokens had to come first";
  EXPECT_EQ(scheduler.counts().held_blocks, 0);
}

TEST(Scheduler, N_1_ARowThatFailedEndsItsSequenceAlone) {
  Scheduler scheduler(with_blocks(64));
  scheduler.add({.id = 1, .prompt = {1}, .max_new_tokens = 5});
  scheduler.add({.id = 2, .prompt = {2}, .max_new_tokens = 5});
  scheduler.next_step();
  const Recorded recorded =
      scheduler.commit({.rows = {{.sequence = 1, .failure = RowFailure::kNotFinite},
                                 {.sequence = 2, .accepted = {{.token = 3}}}}});
  ASSERT_EQ(recorded.ends.size(), 1u);
  EXPECT_EQ(recorded.ends[0].reason, EndReason::kFailed);
  EXPECT_THAT(recorded.num_tokens, ElementsAre(0, 1));
  EXPECT_NE(scheduler.find(2), nullptr);
}

TEST(Scheduler, ACommonPrefixIsComputedOnce) {
  Scheduler scheduler(with_blocks(64));
  scheduler.add({.id = 1, .prompt = prompt_of(70), .max_new_tokens = 1});
  run_dry(scheduler);
  scheduler.add({.id = 2, .prompt = prompt_of(70), .max_new_tokens = 1});
  EXPECT_THAT(scheduler.next_step().rows, ElementsAre(prefill(2, 64, 6, true)));
  EXPECT_EQ(scheduler.find(2)->num_prefix_hit_tokens, 64);
}

TEST(Scheduler, OneTokenIsAlwaysLeftToCompute) {
  Scheduler scheduler(with_blocks(64));
  scheduler.add({.id = 1, .prompt = prompt_of(64), .max_new_tokens = 1});
  run_dry(scheduler);
  scheduler.add({.id = 2, .prompt = prompt_of(64), .max_new_tokens = 1});
  EXPECT_THAT(scheduler.next_step().rows, ElementsAre(prefill(2, 32, 32, true)));
}

TEST(Scheduler, I_1_AnotherScopeNeverSharesBlocks) {
  Scheduler scheduler(with_blocks(64));
  scheduler.add({.id = 1, .prompt = prompt_of(70), .max_new_tokens = 1, .prefix_scope = "a"});
  run_dry(scheduler);
  scheduler.add({.id = 2, .prompt = prompt_of(70), .max_new_tokens = 1, .prefix_scope = "b"});
  EXPECT_THAT(scheduler.next_step().rows, ElementsAre(prefill(2, 0, 70, true)));
}

TEST(Scheduler, H_10_CachedBlocksThatNobodyHoldsAreDropped) {
  Scheduler scheduler(with_blocks(64));
  for (SequenceId id = 1; id <= 2; ++id) {
    scheduler.add(
        {.id = id, .prompt = prompt_of(70, static_cast<TokenId>(id * 1000)), .max_new_tokens = 1});
  }
  run_dry(scheduler);
  scheduler.add({.id = 3, .prompt = prompt_of(70, 1000), .max_new_tokens = 5});
  scheduler.commit(answer(scheduler.next_step()));  // holds two of the four
  EXPECT_EQ(scheduler.counts().cached_blocks, 2);
  EXPECT_EQ(scheduler.drop_cached(1), 1);
  EXPECT_EQ(scheduler.drop_cached(100), 1);
  EXPECT_EQ(scheduler.drop_cached(100), 0);
  scheduler.check_invariants();
  EXPECT_EQ(run_dry(scheduler).size(), 1u);
}

TEST(Scheduler, I3_ChoicesOfOnePromptShareItsFullBlocks) {
  SchedulerOptions options = with_blocks(64);
  options.prefix_cache = false;
  Scheduler scheduler(options);
  scheduler.add({.id = 1, .prompt = prompt_of(70), .max_new_tokens = 5});
  scheduler.add({.id = 2, .prompt = prompt_of(70), .max_new_tokens = 5, .same_prompt_as = 1});
  EXPECT_THAT(scheduler.next_step().rows, ElementsAre(prefill(1, 0, 70, true)));
  scheduler.commit(answer({.rows = {prefill(1, 0, 70, true)}}));
  EXPECT_THAT(scheduler.next_step().rows, ElementsAre(decode(1, 70), prefill(2, 64, 6, true)));
  EXPECT_EQ(scheduler.find(1)->block_tables[0][1].id(), scheduler.find(2)->block_tables[0][1].id());
  EXPECT_NE(scheduler.find(1)->block_tables[0][2].id(), scheduler.find(2)->block_tables[0][2].id());
}

TEST(Scheduler, AChoiceWhoseLeaderEndedStartsOnItsOwn) {
  Scheduler scheduler(with_blocks(64));
  scheduler.add({.id = 1, .prompt = prompt_of(4), .max_new_tokens = 5});
  scheduler.add({.id = 2, .prompt = prompt_of(4), .max_new_tokens = 5, .same_prompt_as = 1});
  scheduler.cancel(1);
  EXPECT_THAT(scheduler.next_step().rows, ElementsAre(prefill(2, 0, 4, true)));
}

TEST(Scheduler, Q_7_PreemptionTakesTheNewestSequenceFirst) {
  SchedulerOptions options = with_blocks(4);
  options.prefix_cache = false;
  Scheduler scheduler(options);
  scheduler.add({.id = 1, .prompt = prompt_of(32, 0), .max_new_tokens = 40});
  scheduler.add({.id = 2, .prompt = prompt_of(64, 500), .max_new_tokens = 40});
  scheduler.commit(answer(scheduler.next_step()));  // 1 + 2 blocks
  const StepPlan second = scheduler.next_step();    // each wants one more, and one is left
  EXPECT_THAT(second.rows, ElementsAre(decode(1, 32)));
  EXPECT_EQ(scheduler.find(2)->num_preemptions, 1);
  EXPECT_EQ(scheduler.find(2)->num_cached_tokens, 0);
  EXPECT_EQ(scheduler.find(2)->tokens.size(), 65u) << "what was generated is kept";
  scheduler.commit(answer(second));
  EXPECT_EQ(run_dry(scheduler).size(), 2u);
}

// Whom a chunk preempts may have been in the plan already, and its tokens are free again.
TEST(Scheduler, AChunkThatPreemptsGetsTheTokensThatItHasBlocksFor) {
  SchedulerOptions options = with_blocks(5);
  options.prefix_cache = false;
  options.max_step_tokens = 67;
  options.min_chunk_tokens = 32;
  Scheduler scheduler(options);
  scheduler.add({.id = 1, .prompt = prompt_of(150), .max_new_tokens = 9});
  for (SequenceId id = 2; id <= 4; ++id) {
    scheduler.add({.id = id, .prompt = {static_cast<TokenId>(id)}, .max_new_tokens = 9});
  }
  scheduler.commit(answer(scheduler.next_step()));
  scheduler.propose(4, {20, 21, 22, 23});
  EXPECT_THAT(scheduler.next_step().rows,
              ElementsAre(decode(2, 1), decode(3, 1), prefill(1, 64, 32, false)));
  EXPECT_EQ(scheduler.find(4)->num_preemptions, 1);
  scheduler.check_invariants();
}

TEST(Scheduler, APausedSequenceIsLeftOutAndKeepsItsBlocks) {
  Scheduler scheduler(with_blocks(64));
  scheduler.add({.id = 1, .prompt = prompt_of(4), .max_new_tokens = 50});
  scheduler.commit(answer(scheduler.next_step()));
  scheduler.pause(1, PauseReason::kSlowReader);
  EXPECT_THAT(scheduler.next_step().rows, IsEmpty());
  EXPECT_EQ(scheduler.counts().waiting, 1);
  EXPECT_EQ(scheduler.counts().held_blocks, 1);
  scheduler.resume(1, PauseReason::kSlowReader);
  EXPECT_THAT(scheduler.next_step().rows, ElementsAre(decode(1, 4)));
}

TEST(Scheduler, AReaderThatCatchesUpDoesNotStartWhatWaitsForAMask) {
  Scheduler scheduler(with_blocks(64));
  scheduler.add({.id = 1, .prompt = prompt_of(4), .max_new_tokens = 50});
  scheduler.commit(answer(scheduler.next_step()));
  scheduler.pause(1, PauseReason::kSlowReader);
  scheduler.pause(1, PauseReason::kMask);
  scheduler.resume(1, PauseReason::kSlowReader);
  scheduler.resume(1, PauseReason::kSlowReader);  // it may say so twice
  EXPECT_THAT(scheduler.next_step().rows, IsEmpty());
  scheduler.resume(1, PauseReason::kMask);
  EXPECT_THAT(scheduler.next_step().rows, ElementsAre(decode(1, 4)));
}

TEST(Scheduler, AcceptedDraftsMoveASequenceOnAndRefusedOnesFallBack) {
  Scheduler scheduler(with_blocks(64));
  scheduler.add({.id = 1, .prompt = prompt_of(4), .max_new_tokens = 50});
  scheduler.commit(answer(scheduler.next_step()));
  scheduler.propose(1, {20, 21, 22});
  const StepPlan plan = scheduler.next_step();
  EXPECT_THAT(plan.rows, ElementsAre(PlanRow{1, 4, 4, 4}));
  scheduler.commit({.rows = {{.sequence = 1, .accepted = {{.token = 20}, {.token = 9}}}}});
  EXPECT_THAT(scheduler.find(1)->tokens, ElementsAre(100, 101, 102, 103, 7, 20, 9));
  EXPECT_EQ(scheduler.find(1)->num_cached_tokens, 6);
  EXPECT_THAT(scheduler.next_step().rows, ElementsAre(decode(1, 6)));
}

// The rows of logits that a step may ask for are memory that was set aside.
TEST(Scheduler, I8_DraftsOfAFullBatchKeepToTheirBound) {
  SchedulerOptions options = with_blocks(64);
  options.max_sequences = 3;
  options.max_step_drafts = 4;
  Scheduler scheduler(options);
  for (SequenceId id = 1; id <= 3; ++id) {
    scheduler.add({.id = id, .prompt = prompt_of(4), .max_new_tokens = 50});
  }
  scheduler.commit(answer(scheduler.next_step()));
  for (SequenceId id = 1; id <= 3; ++id) scheduler.propose(id, {20, 21, 22});
  const StepPlan plan = scheduler.next_step();
  EXPECT_THAT(plan.rows, ElementsAre(PlanRow{1, 4, 4, 4}, PlanRow{2, 4, 2, 2}, decode(3, 4)));
  EXPECT_EQ(plan.num_score_rows(), options.max_score_rows());
  EXPECT_THAT(scheduler.find(2)->drafts, ElementsAre(20));
  EXPECT_THAT(scheduler.find(3)->drafts, IsEmpty());
}

TEST(Scheduler, BlocksThatLeftTheWindowAreFreed) {
  Scheduler scheduler({.groups = {{.num_blocks = 32}, {.num_blocks = 32, .window = 40}}});
  scheduler.add({.id = 1, .prompt = prompt_of(200), .max_new_tokens = 5});
  scheduler.commit(answer(scheduler.next_step()));
  const Sequence& sequence = *scheduler.find(1);
  EXPECT_TRUE(sequence.block_tables[0][0]);
  EXPECT_FALSE(sequence.block_tables[1][4]) << "positions 128 to 159 are out of sight of 200";
  EXPECT_TRUE(sequence.block_tables[1][5]);
}

TEST(Scheduler, ASequenceWithOnlyWindowedGroupsOutlivesTheEvictionOfItsBeginning) {
  Scheduler scheduler({.groups = {{.num_blocks = 4, .window = 8}}});
  scheduler.add({.id = 1, .prompt = prompt_of(60), .max_new_tokens = 60});
  EXPECT_EQ(run_dry(scheduler).size(), 1u);
  EXPECT_EQ(scheduler.counts().held_blocks, 0);
}

TEST(Scheduler, BlocksThatLeftTheWindowMakeRoomThoughThePrefixCacheHasThem) {
  Scheduler scheduler({.groups = {{.num_blocks = 8, .window = 40}}});
  for (const SequenceId id : {1, 2}) {
    scheduler.add({.id = id,
                   .prompt = prompt_of(100, static_cast<TokenId>(1000 * id)),
                   .max_new_tokens = 100});
  }
  EXPECT_EQ(run_dry(scheduler).size(), 2u);
  EXPECT_EQ(scheduler.counts().preemptions, 0);
}

// Of the step in which the second choice of a prompt starts.
std::vector<PlanRow> second_choice_behind(int64_t window) {
  Scheduler scheduler({.prefix_cache = false, .groups = {{.num_blocks = 16, .window = window}}});
  scheduler.add({.id = 1, .prompt = prompt_of(70), .max_new_tokens = 5});
  scheduler.add({.id = 2, .prompt = prompt_of(70), .max_new_tokens = 5, .same_prompt_as = 1});
  scheduler.commit(answer(scheduler.next_step()));
  return scheduler.next_step().rows;
}

TEST(Scheduler, AChoiceSharesWhatTheWindowOfItsLeaderHasNotPassed) {
  EXPECT_THAT(second_choice_behind(100), ElementsAre(decode(1, 70), prefill(2, 64, 6, true)));
}

TEST(Scheduler, AChoiceWhoseLeaderHasLeftTheWindowComputesItsOwnPrompt) {
  EXPECT_THAT(second_choice_behind(8), ElementsAre(decode(1, 70), prefill(2, 0, 70, true)));
}

TEST(Scheduler, TokensAcceptedBehindTheEndLeaveNothingInThePrefixCache) {
  Scheduler scheduler(with_blocks(8));
  scheduler.add({.id = 1, .prompt = prompt_of(28), .max_new_tokens = 50, .end_ids = {9}});
  scheduler.commit(answer(scheduler.next_step()));
  scheduler.propose(1, {9, 1, 2, 3, 4});
  const StepPlan plan = scheduler.next_step();
  EXPECT_THAT(plan.rows, ElementsAre(PlanRow{1, 28, 6, 6}));
  RowResult row{.sequence = 1};
  for (const TokenId token : {9, 1, 2, 3, 4, 5}) row.accepted.push_back({.token = token});
  const Recorded recorded = scheduler.commit({.rows = {row}});
  ASSERT_EQ(recorded.ends.size(), 1u);
  EXPECT_EQ(recorded.ends[0].reason, EndReason::kEndToken);
  EXPECT_THAT(recorded.num_tokens, ElementsAre(1)) << "what lies behind the end is nobody's";
  EXPECT_EQ(scheduler.counts().cached_blocks, 0) << "only 30 tokens were there";
}

TEST(Scheduler, DraftsNeverReachBeyondTheLastTokenAllowed) {
  Scheduler scheduler(with_blocks(8));
  scheduler.add({.id = 1, .prompt = prompt_of(4), .max_new_tokens = 3});
  scheduler.commit(answer(scheduler.next_step()));
  scheduler.propose(1, {20, 21, 22, 23});
  EXPECT_THAT(scheduler.next_step().rows, ElementsAre(PlanRow{1, 4, 2, 2}));
}

// More decodes than the budget likes come back from a pause; newcomers must not keep it that way.
TEST(Scheduler, I11_AnOlderPrefillIsNotStarvedByNewcomers) {
  SchedulerOptions options = with_blocks(600);
  options.max_sequences = 100;
  options.max_step_tokens = 100;
  Scheduler scheduler(options);
  constexpr SequenceId kLong = 1000;
  for (SequenceId id = 0; id < 40; ++id) {
    scheduler.add({.id = id, .prompt = prompt_of(4), .max_new_tokens = 60});
  }
  for (int i = 0; i < 3; ++i) scheduler.commit(answer(scheduler.next_step()));
  for (SequenceId id = 0; id < 40; ++id) scheduler.pause(id, PauseReason::kSlowReader);
  scheduler.add({.id = kLong, .prompt = prompt_of(6000, 5000), .max_new_tokens = 1});
  int steps = 0;
  for (; scheduler.find(kLong) != nullptr && steps < 1000; ++steps) {
    for (SequenceId id = 0; id < 40 && steps == 20; ++id)
      scheduler.resume(id, PauseReason::kSlowReader);
    for (int i = 0; i < 3; ++i) {
      scheduler.add({.id = 2000 + 3 * steps + i, .prompt = prompt_of(4), .max_new_tokens = 60});
    }
    scheduler.commit(answer(scheduler.next_step()));
  }
  EXPECT_LT(steps, 300);
}

TEST(Scheduler, ChunksAreWholeBlocksInAStepThatIsSmallerThanTheMinimum) {
  SchedulerOptions options = with_blocks(64);
  options.max_step_tokens = 40;
  Scheduler scheduler(options);
  scheduler.add({.id = 1, .prompt = prompt_of(100), .max_new_tokens = 1});
  EXPECT_THAT(scheduler.next_step().rows, ElementsAre(prefill(1, 0, 32, false)));
}

TEST(Scheduler, APausedSequenceKeepsNobodyOutOfTheBatch) {
  SchedulerOptions options = with_blocks(64);
  options.max_sequences = 1;
  Scheduler scheduler(options);
  scheduler.add({.id = 1, .prompt = prompt_of(4), .max_new_tokens = 50});
  scheduler.commit(answer(scheduler.next_step()));
  scheduler.pause(1, PauseReason::kSlowReader);
  scheduler.add({.id = 2, .prompt = prompt_of(5, 500), .max_new_tokens = 50});
  const StepPlan plan = scheduler.next_step();
  EXPECT_THAT(plan.rows, ElementsAre(prefill(2, 0, 5, true)));
  scheduler.commit(answer(plan));
  scheduler.resume(1, PauseReason::kSlowReader);
  EXPECT_THAT(scheduler.next_step().rows, ElementsAre(decode(1, 4)))
      << "one place, the older first";
}

TEST(Scheduler, APausedSequenceGivesWayWhenNothingElseCanRun) {
  SchedulerOptions options = with_blocks(4);
  options.prefix_cache = false;
  Scheduler scheduler(options);
  scheduler.add({.id = 1, .prompt = prompt_of(90), .max_new_tokens = 20});
  scheduler.commit(answer(scheduler.next_step()));
  scheduler.pause(1, PauseReason::kSlowReader);
  scheduler.add({.id = 2, .prompt = prompt_of(60, 500), .max_new_tokens = 20});
  EXPECT_THAT(scheduler.next_step().rows, ElementsAre(prefill(2, 0, 60, true)));
  EXPECT_EQ(scheduler.find(1)->num_preemptions, 1);
}

TEST(Scheduler, I12_ASequenceThatWasPreemptedOftenIsProtected) {
  SchedulerOptions options = with_blocks(4);
  options.prefix_cache = false;
  options.max_preemptions = 1;
  Scheduler scheduler(options);
  scheduler.add({.id = 1, .prompt = prompt_of(32, 0), .max_new_tokens = 60});
  scheduler.add({.id = 2, .prompt = prompt_of(64, 500), .max_new_tokens = 60});
  const std::vector<SequenceEnd> ends = run_dry(scheduler);
  EXPECT_EQ(ends.size(), 2u);
  EXPECT_EQ(scheduler.counts().preemptions, 1) << "afterwards all it may need was set aside";
}

// Left alone, this traffic preempts one of the sequences four times.
TEST(Scheduler, I12_SoManyPreemptionsAsAreAllowedAndNoMore) {
  for (const int32_t allowed : {0, 1, 2, 3, 4, 5}) {
    SchedulerOptions options = with_blocks(8);
    options.prefix_cache = false;
    options.max_preemptions = allowed;
    Scheduler scheduler(options);
    const std::vector<int32_t> lengths = {53, 52, 8, 4, 4};
    for (const int32_t length : lengths) {
      const auto id = static_cast<SequenceId>(scheduler.counts().waiting + 1);
      scheduler.add({.id = id, .prompt = prompt_of(length), .max_new_tokens = 136});
    }
    int32_t most = 0;
    for (StepPlan plan = scheduler.next_step(); !plan.empty(); plan = scheduler.next_step()) {
      for (SequenceId id = 1; id <= std::ssize(lengths); ++id) {
        const Sequence* sequence = scheduler.find(id);
        if (sequence != nullptr) most = std::max(most, sequence->num_preemptions);
      }
      scheduler.commit(answer(plan));
      scheduler.check_invariants();
    }
    EXPECT_EQ(most, std::min(allowed, 4)) << allowed;
  }
}

TEST(Scheduler, I13_ACancelledSequenceIsGoneWhileItsStepRuns) {
  Scheduler scheduler(with_blocks(8));
  scheduler.add({.id = 1, .prompt = prompt_of(40), .max_new_tokens = 5});
  const StepPlan plan = scheduler.next_step();
  scheduler.cancel(1);
  scheduler.cancel(1);
  EXPECT_EQ(scheduler.counts().held_blocks, 0);
  const Recorded recorded = scheduler.commit(answer(plan));
  EXPECT_THAT(recorded.ends, IsEmpty());
  EXPECT_THAT(recorded.num_tokens, ElementsAre(0));
  EXPECT_THAT(scheduler.next_step().rows, IsEmpty());
}

TEST(Scheduler, WhatWasGeneratedIsFoundByTheNextTurnOfAConversation) {
  Scheduler scheduler(with_blocks(64));
  scheduler.add({.id = 1, .prompt = prompt_of(40), .max_new_tokens = 40});
  run_dry(scheduler);
  std::vector<TokenId> turn = prompt_of(40);
  turn.insert(turn.end(), 40, 7);
  turn.push_back(55);
  scheduler.add({.id = 2, .prompt = turn, .max_new_tokens = 1});
  EXPECT_THAT(scheduler.next_step().rows, ElementsAre(prefill(2, 64, 17, true)));
}

}  // namespace
}  // namespace tidemill

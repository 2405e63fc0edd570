#include "executor/build_input.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduler/prefix_cache.h"
#include "scheduler/sequence.h"

namespace tidemill {
namespace {

using testing::Each;
using testing::ElementsAre;

class BuildInput : public testing::Test {
 protected:
  // The next step of a scheduler with two KV groups, the second with a window.
  StepInput next() {
    plan_ = scheduler_.next_step();
    const auto sampling_of = [this](SequenceId id) -> const SequenceSampling& {
      return sampling_[id];
    };
    StepInput input;
    build_input(plan_, scheduler_, sampling_of, input);
    build_input(plan_, scheduler_, sampling_of, used_again_);
    EXPECT_EQ(used_again_, input) << "nothing is left of the step before";
    return input;
  }
  void commit(TokenId token) {
    StepResult result;
    for (const PlanRow& row : plan_.rows) {
      if (row.num_score_rows == 0) continue;
      result.rows.push_back({.sequence = row.sequence, .accepted = {{.token = token}}});
    }
    scheduler_.commit(result);
  }
  void add(SequenceId id, std::vector<TokenId> prompt) {
    scheduler_.add({.id = id, .prompt = std::move(prompt), .max_new_tokens = 50});
  }

  Scheduler scheduler_{{.max_step_tokens = 64,
                        .max_step_drafts = 8,
                        .min_chunk_tokens = 32,
                        .groups = {{.num_blocks = 20}, {.num_blocks = 20, .window = 40}}}};
  std::unordered_map<SequenceId, SequenceSampling> sampling_;
  StepPlan plan_;
  StepInput used_again_;
};

TEST_F(BuildInput, TokensStandInTheOrderOfThePlanWithTheirPositions) {
  add(1, {11, 12, 13});
  add(2, {21, 22});
  const StepInput input = next();
  EXPECT_THAT(input.forward.token_ids, ElementsAre(11, 12, 13, 21, 22));
  EXPECT_THAT(input.forward.positions, ElementsAre(0, 1, 2, 0, 1));
  EXPECT_THAT(input.forward.score_rows, ElementsAre(2, 4));
  ASSERT_EQ(input.sampling.size(), 2u);
  EXPECT_EQ(input.sampling[0].position, 3);
  EXPECT_EQ(input.sampling[1].position, 2);
}

TEST_F(BuildInput, EveryGroupHasATableOfItsOwnPerSequence) {
  add(1, std::vector<TokenId>(kBlockTokens + 1, 1));
  add(2, {2});
  const StepInput input = next();
  ASSERT_EQ(input.forward.groups.size(), 2u);
  for (size_t g = 0; g < 2; ++g) {
    const ForwardInput::Group& group = input.forward.groups[g];
    ASSERT_EQ(group.block_ids.size(), 3u);
    EXPECT_THAT(std::vector<int32_t>(group.table_begins.begin(), group.table_begins.end() - 1),
                Each(0));
    EXPECT_EQ(group.table_begins.back(), 2);
    const auto& tables = scheduler_.find(1)->block_tables;
    EXPECT_EQ(group.block_ids[1], tables[g][1].id());
  }
}

TEST_F(BuildInput, TheMiddleOfAPrefillAsksForNoToken) {
  add(1, std::vector<TokenId>(100, 1));
  const StepInput first = next();
  EXPECT_EQ(first.forward.token_ids.size(), 64u);
  EXPECT_TRUE(first.forward.score_rows.empty());
  EXPECT_TRUE(first.sampling.empty());
  scheduler_.commit({});
  const StepInput second = next();
  EXPECT_EQ(second.forward.positions.front(), 64);
  EXPECT_THAT(second.forward.score_rows, ElementsAre(35));
  EXPECT_EQ(second.sampling[0].position, 100);
}

TEST_F(BuildInput, BlocksBehindTheWindowAreMinusOneThere) {
  add(1, std::vector<TokenId>(130, 1));
  while (scheduler_.find(1)->num_new_tokens() < 2) {
    next();
    commit(5);
  }
  const StepInput input = next();
  EXPECT_THAT(input.forward.groups[0].block_ids, Each(testing::Ge(0)));
  EXPECT_EQ(input.forward.groups[1].block_ids.front(), -1);
  EXPECT_GE(input.forward.groups[1].block_ids.back(), 0);
}

TEST_F(BuildInput, DraftsStandBehindTheLastTokenWithAScoreRowEach) {
  add(1, {1, 2});
  next();
  commit(3);
  scheduler_.propose(1, {4, 5});
  const StepInput input = next();
  EXPECT_THAT(input.forward.token_ids, ElementsAre(3, 4, 5));
  EXPECT_THAT(input.forward.positions, ElementsAre(2, 3, 4));
  EXPECT_THAT(input.forward.score_rows, ElementsAre(0, 1, 2));
  EXPECT_EQ(input.sampling[2].position, 5);
}

TEST_F(BuildInput, TheEndIsForbiddenUntilTheLeastTokensAreThere) {
  sampling_[1] = {
      .params = {.temperature = 0.5f, .seed = 9}, .choice = 2, .min_new_tokens = 2, .end_ids = {7}};
  add(1, {1, 2});
  for (const bool forbidden : {true, true, false}) {
    const StepInput input = next();
    EXPECT_EQ(input.sampling[0].params.seed, 9u);
    EXPECT_EQ(input.sampling[0].choice, 2);
    EXPECT_EQ(input.forbidden.items, forbidden ? std::vector<TokenId>{7} : std::vector<TokenId>());
    commit(3);
  }
}

using Ids = std::vector<TokenId>;

Ids list(std::span<const TokenId> ids) { return Ids(ids.begin(), ids.end()); }

TEST_F(BuildInput, TheHistoryIsThereOnlyForThoseWhoPenaliseIt) {
  sampling_[2].params.repetition_penalty = 1.5f;
  sampling_[3].params.frequency_penalty = 0.5f;
  for (const SequenceId id : {1, 2, 3}) add(id, {11, 12});
  const StepInput prefill = next();
  EXPECT_EQ(list(prefill.changes(0).prompt), Ids());
  EXPECT_EQ(list(prefill.changes(1).prompt), (Ids{11, 12}));
  EXPECT_EQ(list(prefill.changes(2).prompt), Ids()) << "it does not look at the prompt";
  EXPECT_TRUE(prefill.output.begins.empty());
  commit(5);
  next();
  commit(6);
  const StepInput decode = next();
  EXPECT_EQ(list(decode.changes(0).output), Ids());
  EXPECT_EQ(list(decode.changes(1).output), (Ids{5, 6}));
  EXPECT_EQ(list(decode.changes(2).output), (Ids{5, 6}));
}

TEST_F(BuildInput, ADraftCountsAsGeneratedForTheRowsBehindIt) {
  sampling_[1].params.presence_penalty = 0.5f;
  sampling_[1].bad_words = {{3, 4, 9}};
  add(1, {1, 2});
  next();
  commit(3);
  scheduler_.propose(1, {4, 5});
  const StepInput input = next();
  EXPECT_EQ(list(input.changes(0).output), (Ids{3}));
  EXPECT_EQ(list(input.changes(1).output), (Ids{3, 4}));
  EXPECT_EQ(list(input.changes(2).output), (Ids{3, 4, 5}));
  EXPECT_EQ(list(input.changes(0).forbidden), Ids());
  EXPECT_EQ(list(input.changes(1).forbidden), (Ids{9})) << "behind 3, 4";
  EXPECT_EQ(list(input.changes(2).forbidden), Ids());
}

TEST_F(BuildInput, ABadWordIsForbiddenAtItsLastTokenBehindTheOthers) {
  sampling_[1].bad_words = {{8}, {1, 2, 7}, {5, 5, 6}};
  sampling_[1].min_new_tokens = 1;
  sampling_[1].end_ids = {30};
  add(1, {1, 2});
  EXPECT_EQ(list(next().changes(0).forbidden), (Ids{30, 8})) << "the prompt's tokens do not count";
  commit(5);
  EXPECT_EQ(list(next().changes(0).forbidden), (Ids{8}));
  commit(5);
  EXPECT_EQ(list(next().changes(0).forbidden), (Ids{8, 6}));
  commit(5);
  EXPECT_EQ(list(next().changes(0).forbidden), (Ids{8, 6}));
  commit(4);
  EXPECT_EQ(list(next().changes(0).forbidden), (Ids{8}));
}

TEST_F(BuildInput, AScoredPromptHasARowForEachTokenBehindAnother) {
  sampling_[1].num_prompt_logprobs = 4;
  sampling_[1].params = {.temperature = 0.0f, .num_logprobs = 2, .presence_penalty = 1.0f};
  scheduler_.add({.id = 1, .prompt = {11, 12, 13}, .max_new_tokens = 5, .score_prompt = true});
  const StepInput input = next();
  EXPECT_THAT(input.forward.score_rows, ElementsAre(0, 1, 2));
  ASSERT_EQ(input.sampling.size(), 3u);
  EXPECT_EQ(input.sampling[0].scored, 12);
  EXPECT_EQ(input.sampling[1].scored, 13);
  EXPECT_EQ(input.sampling[1].position, 2);
  EXPECT_EQ(input.sampling[1].params.num_logprobs, 4);
  EXPECT_EQ(input.sampling[2].scored, kNoToken);
  EXPECT_EQ(input.sampling[2].params.num_logprobs, 2);
  EXPECT_EQ(input.sampling[2].position, 3);
}

TEST_F(BuildInput, BiasAndAllowedIdsStandBesideTheirRowAlone) {
  sampling_[2].bias_ids = {4, 5};
  sampling_[2].bias = {1.5f, -2.0f};
  sampling_[2].allowed_ids = {4, 9};
  add(1, {1});
  add(2, {2});
  const StepInput input = next();
  EXPECT_TRUE(input.changes(0).empty());
  EXPECT_EQ(list(input.changes(1).bias_ids), (Ids{4, 5}));
  EXPECT_THAT(input.bias.items, ElementsAre(1.5f, -2.0f));
  EXPECT_EQ(list(input.changes(1).allowed), (Ids{4, 9}));
}

}  // namespace
}  // namespace tidemill

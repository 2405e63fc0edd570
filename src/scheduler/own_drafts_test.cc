// A scheduler whose sequences draft from their own text.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "scheduler/draft_costs.h"
#include "scheduler/scheduler.h"
#include "scheduler/sequence.h"
#include "scheduler/test_steps.h"

namespace tidemill {
namespace {

// Answers whatever is planned for them with 1, 2, 3, ... from the first token on.
void count_on(Scheduler& scheduler, const StepPlan& plan) {
  scheduler.commit(
      answer_by(scheduler, plan, [](int32_t position) { return (position - 1) % 10; }));
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
  options.free_tokens = free_tokens;
  options.step_growth.assign(static_cast<size_t>(free_tokens), 1.0);
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

TEST(OwnDrafts, AutoGoesByWhatStepsTakeAndNgramByWhatIsFree) {
  for (const auto& [how, most] : {std::pair("auto", 3), std::pair("ngram", 11)}) {
    SchedulerOptions options = speculating(how, 12);
    options.step_growth.resize(4);
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

// Of a sequence: what it has taken and what it has said, in steps without drafts.
struct Pace {
  double time = 0.0;
  int64_t tokens = 0;
};

// Steps of as many sequences as there are texts, until all have ended: text i says texts[i][j] as
// its token j. What each has taken when a step ends is told to `check`.
template <typename Check>
void tell(const SchedulerOptions& options, const std::vector<std::vector<TokenId>>& texts,
          Check&& check) {
  Scheduler scheduler(options);
  std::vector<Pace> paces(texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    scheduler.add({.id = static_cast<SequenceId>(i),
                   .prompt = {0, 1, 2, 3},
                   .max_new_tokens = static_cast<int32_t>(texts[i].size())});
  }
  for (StepPlan plan = scheduler.next_step(); !plan.empty(); plan = scheduler.next_step()) {
    const auto num_rows = static_cast<int32_t>(plan.rows.size());
    const auto num_drafts = static_cast<int32_t>(plan.num_tokens()) - num_rows;
    const bool decodes = plan.rows.at(0).first_position > 0;
    const double growth =
        decodes ? growth_by_drafts(options.step_growth, num_rows, num_drafts) : 1.0;
    StepResult result;
    for (const PlanRow& row : plan.rows) {
      const auto text = static_cast<size_t>(row.sequence);
      const Sequence& sequence = *scheduler.find(row.sequence);
      RowResult& of_row = result.rows.emplace_back();
      of_row.sequence = row.sequence;
      for (int32_t i = 0; i < row.num_choice_rows(); ++i) {
        const auto at = static_cast<size_t>(sequence.num_new_tokens() + i);
        if (at == texts[text].size()) break;
        of_row.accepted.push_back({.token = texts[text][at]});
        const auto draft = static_cast<size_t>(i);
        if (draft < sequence.drafts.size() && sequence.drafts[draft] != texts[text][at]) break;
      }
      paces[text].time += growth;
      paces[text].tokens += static_cast<int64_t>(of_row.accepted.size());
    }
    scheduler.commit(result);
    for (const Pace& pace : paces) check(pace);
  }
}

TEST(OwnDrafts, WhateverIsGuessedNobodyIsMoreThanThreePercentLate) {
  std::mt19937_64 random(5);
  const auto up_to = [&](uint64_t most) { return random() % (most + 1); };
  int64_t num_tokens = 0;
  for (int run = 0; run < 200; ++run) {
    SchedulerOptions options = speculating("auto", 32);
    const double slope = static_cast<double>(up_to(30)) / 100.0;
    for (size_t n = 1; n < options.step_growth.size(); ++n) {
      options.step_growth[n] = options.step_growth[n - 1] + (up_to(2) == 0 ? 2.0 * slope : 0.0);
    }
    // Phrases that are often begun alike and go on otherwise: guesses are right and wrong in turn.
    std::vector<std::vector<TokenId>> texts(1 + up_to(4));
    for (std::vector<TokenId>& text : texts) {
      const uint64_t surprise = up_to(30);
      while (text.size() < 300) {
        const bool repeats = text.size() >= 20 && up_to(surprise) > 0;
        text.push_back(repeats ? text[text.size() - 20] : static_cast<TokenId>(up_to(9)));
      }
    }
    tell(options, texts, [&](const Pace& pace) {
      const double without = static_cast<double>(pace.tokens);
      EXPECT_LE(pace.time, 1.0301 * std::max(without, 1.0)) << run;
      num_tokens += pace.tokens;
    });
  }
  EXPECT_GT(num_tokens, 0);
}

TEST(OwnDrafts, AutoIsFastWhereATextRepeatsItselfThoughDraftsCostMoreThanTheyMayLose) {
  SchedulerOptions options = speculating("auto", 16);
  for (size_t n = 1; n < options.step_growth.size(); ++n) {
    options.step_growth[n] = 1.08 + 0.02 * static_cast<double>(n);
  }
  std::vector<TokenId> text;
  while (text.size() < 200) text.push_back(static_cast<TokenId>(text.size() % 20));
  Pace last;
  tell(options, {text}, [&](const Pace& pace) { last = pace; });
  EXPECT_EQ(last.tokens, 200);
  EXPECT_LT(last.time, 60.0);
  EXPECT_GT(last.time, 15.0);
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

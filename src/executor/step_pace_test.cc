// The time of steps, kept by a scheduler and learned by StepPace, on machines that are numbers and
// a seed: no clock is read here.
#include "executor/step_pace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>

#include "scheduler/prefix_cache.h"
#include "scheduler/scheduler.h"

namespace tidemill {
namespace {

// What the learner does not know: costs in seconds, reading that hides arithmetic, and noise.
struct Machine {
  StepCosts costs;
  double free_tokens = 0.0;  // of a step's tokens, whose arithmetic is hidden
  double noise = 0.0;        // one standard deviation, as a share
  double hiccup = 0.0;       // chance of a step that takes three times as long
  std::mt19937_64 random{1};

  double seconds(const StepPlan& plan) {
    const StepWork work = plan.work();
    const double tokens =
        work.decode_tokens * costs.decode_token + work.prompt_tokens * costs.prompt_token;
    const double hidden = free_tokens * costs.prompt_token;
    const double time = costs.fixed + std::max(0.0, tokens - hidden) +
                        work.decode_keys * costs.decode_key + work.prompt_keys * costs.prompt_key;
    const bool hiccups = std::uniform_real_distribution<>(0, 1)(random) < hiccup;
    return time * std::max(0.5, 1.0 + std::normal_distribution<>(0, noise)(random)) *
           (hiccups ? 3.0 : 1.0);
  }
};

// SmolLM2-135M on two cores without AMX, and what is unlike it: much or nothing hidden.
const StepCosts kSmall{.fixed = 4e-3,
                       .decode_token = 0.4e-3,
                       .decode_key = 0.3e-6,
                       .prompt_token = 0.2e-3,
                       .prompt_key = 0.05e-6};
const StepCosts kLarge{.fixed = 200e-3,
                       .decode_token = 1e-3,
                       .decode_key = 4e-6,
                       .prompt_token = 0.5e-3,
                       .prompt_key = 0.2e-6};

StepResult answer(const StepPlan& plan) {
  StepResult result;
  for (const PlanRow& row : plan.rows) {
    if (row.num_score_rows > 0) {
      result.rows.push_back({.sequence = row.sequence, .accepted = {{.token = 7}}});
    }
  }
  return result;
}

double percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

class PacedRun {
 public:
  explicit PacedRun(Machine machine) : machine_(std::move(machine)) {}

  void add(int prompt_tokens, int new_tokens) {
    std::vector<TokenId> prompt(static_cast<size_t>(prompt_tokens));
    std::iota(prompt.begin(), prompt.end(), static_cast<TokenId>(next_id_ * 10'000));
    scheduler_.add({.id = next_id_++, .prompt = std::move(prompt), .max_new_tokens = new_tokens});
  }
  double step(StepPace& pace) {
    const StepPlan plan = scheduler_.next_step(pace.costs());
    EXPECT_FALSE(plan.empty());
    const double seconds = machine_.seconds(plan);
    pace.observe(plan, seconds);
    const Recorded recorded = scheduler_.commit(answer(plan));
    num_ended_ += recorded.ends.size();
    last_ = plan.work();
    for (const PlanRow& row : plan.rows) {
      if (!row.is_decode()) prompt_tokens_[row.sequence] += row.num_tokens;
    }
    return seconds;
  }
  const StepWork& last() const { return last_; }
  size_t num_ended() const { return num_ended_; }
  std::map<SequenceId, int64_t>& prompt_tokens() { return prompt_tokens_; }
  const Scheduler& scheduler() const { return scheduler_; }

 private:
  Machine machine_;
  Scheduler scheduler_{{.max_sequences = 80,
                        .max_step_tokens = 2048,
                        .prefix_cache = false,
                        .groups = {{.num_blocks = 40'000}}}};
  SequenceId next_id_ = 1;
  size_t num_ended_ = 0;
  StepWork last_;
  std::map<SequenceId, int64_t> prompt_tokens_;
};

struct Case {
  const char* name;
  Machine machine;
  double aim;  // of the limit, that steps with prompts in them reach in the middle
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class MaxStepMs : public testing::TestWithParam<Case> {};

// 64 sequences decode; the limit is twice what their steps take; prompts of 4,096 tokens arrive,
// one after another. 99 steps of 100 stay within 1.15 of the limit, every prompt comes to its end,
// and the limit is used.
TEST_P(MaxStepMs, HoldsForNinetyNineOfAHundredStepsWhilePromptsProgress) {
  PacedRun run(GetParam().machine);
  StepPace unlimited(0);
  for (int i = 0; i < 64; ++i) run.add(128, 100'000);
  while (run.last().decode_tokens < 64) run.step(unlimited);
  std::vector<double> alone;
  for (int i = 0; i < 50; ++i) alone.push_back(run.step(unlimited));
  const double limit = std::ceil(2000.0 * percentile(alone, 0.5)) * 1e-3;
  StepPace pace(static_cast<int64_t>(std::lround(limit * 1e3)));
  for (int i = 0; i < 20; ++i) run.step(pace);

  run.prompt_tokens().clear();
  std::vector<double> steps, with_prompts;
  constexpr int kPrompts = 12;
  for (int i = 0; i < kPrompts; ++i) run.add(4096, 8);
  int64_t most_steps = 6000;
  while (run.num_ended() < kPrompts && --most_steps > 0) {
    const double seconds = run.step(pace);
    steps.push_back(seconds);
    if (run.last().prompt_tokens > 0) with_prompts.push_back(seconds);
  }
  EXPECT_EQ(run.num_ended(), static_cast<size_t>(kPrompts)) << "every prompt comes to its end";
  EXPECT_EQ(run.prompt_tokens().size(), static_cast<size_t>(kPrompts));
  EXPECT_LE(percentile(steps, 0.99), 1.15 * limit);
  EXPECT_GE(percentile(with_prompts, 0.5), GetParam().aim * limit);
}

INSTANTIATE_TEST_SUITE_P(
    Machines, MaxStepMs,
    testing::Values(Case{"small", {.costs = kSmall, .noise = 0.03}, 0.8},
                    Case{"large", {.costs = kLarge, .noise = 0.03}, 0.8},
                    Case{"hiding", {.costs = kLarge, .free_tokens = 100, .noise = 0.03}, 0.8},
                    Case{"noisy", {.costs = kSmall, .noise = 0.08}, 0.7},
                    Case{"still", {.costs = kSmall}, 0.8},
                    Case{"hiccups", {.costs = kSmall, .noise = 0.03, .hiccup = 0.005}, 0.6}),
    [](const auto& machine) { return machine.param.name; });

TEST(StepPace, LearnsWhatEachPartOfAStepCosts) {
  Machine machine{.costs = kSmall};
  StepPace pace(100);
  std::mt19937_64 random(2);
  const auto plan_of = [&] {
    StepPlan plan;
    const auto decodes = static_cast<int>(random() % 64);
    for (int i = 0; i <= decodes; ++i) {
      plan.rows.push_back({.first_position = static_cast<int32_t>(random() % 2000),
                           .num_tokens = 1,
                           .num_score_rows = 1});
    }
    if (random() % 2 == 0) {
      plan.rows.push_back({.first_position = static_cast<int32_t>(random() % 4000),
                           .num_tokens = static_cast<int32_t>(32 * (1 + random() % 16))});
    }
    return plan;
  };
  for (int i = 0; i < 400; ++i) {
    const StepPlan plan = plan_of();
    pace.observe(plan, machine.seconds(plan));
  }
  for (int i = 0; i < 50; ++i) {
    const StepPlan plan = plan_of();
    const double seconds = machine.seconds(plan);
    EXPECT_NEAR(pace.predict(plan), seconds, 0.05 * seconds);
  }
}

// A steady state of decodes says nothing of prompts: what was known of them stays.
TEST(StepPace, LongDecodingForgetsNothingOfPrompts) {
  Machine machine{.costs = kSmall, .noise = 0.02};
  StepPace pace(50);
  const StepPlan decodes{.rows = {{.first_position = 500, .num_tokens = 1, .num_score_rows = 1}}};
  const StepPlan chunk{.rows = {{.first_position = 0, .num_tokens = 256}}};
  for (int i = 0; i < 100; ++i) {
    pace.observe(chunk, machine.seconds(chunk));
    pace.observe(decodes, machine.seconds(decodes));
  }
  for (int i = 0; i < 20'000; ++i) pace.observe(decodes, machine.seconds(decodes));
  machine.noise = 0.0;
  const double seconds = machine.seconds(chunk);
  EXPECT_NEAR(pace.predict(chunk), seconds, 0.15 * seconds);
}

// A server's first requests: chunks of one size say nothing of what larger ones take, and what they
// took is neither thought to be every step's, nor are all costs but one found to be nothing.
TEST(StepPace, AfterAFewChunksLargerOnesAreNotUnderestimated) {
  Machine machine{.costs = kSmall, .noise = 0.03};
  StepPace pace(160);
  const auto chunk_at = [](int32_t position, int32_t tokens) {
    return StepPlan{.rows = {{.first_position = position, .num_tokens = tokens}}};
  };
  StepPlan cold = chunk_at(0, 64);
  pace.observe(cold, 0.23);  // pages that are touched for the first time
  for (int32_t i = 0; i < 14; ++i) {
    const StepPlan plan = chunk_at(64 + 32 * i, 32);
    pace.observe(plan, machine.seconds(plan));
  }
  machine.noise = 0.0;
  for (const int32_t tokens : {32, 64, 128, 256, 544}) {
    const StepPlan plan = chunk_at(0, tokens);
    EXPECT_GE(pace.predict(plan), 0.9 * machine.seconds(plan)) << tokens;
    EXPECT_LE(pace.predict(plan), 2.0 * machine.seconds(plan)) << tokens;
  }
}

// A long prompt's last steps are all alike. What somebody adds to all of them may be put down to
// anything; so the next prompt begins with not much more than they had.
TEST(StepPace, TokensOfPromptsGrowByDoublingAndAreForgottenSlowly) {
  Machine machine{.costs = kSmall};
  StepPace pace(160);
  const auto observe = [&](int32_t tokens) {
    const StepPlan plan{.rows = {{.first_position = 0, .num_tokens = tokens}}};
    pace.observe(plan, machine.seconds(plan));
  };
  EXPECT_EQ(pace.costs().most_prompt_tokens, 64.0);
  observe(64);
  EXPECT_EQ(pace.costs().most_prompt_tokens, 128.0);
  observe(100);
  EXPECT_EQ(pace.costs().most_prompt_tokens, 200.0);
  observe(5);
  EXPECT_EQ(pace.costs().most_prompt_tokens, 190.0);
  const StepPlan decode{.rows = {{.first_position = 9, .num_tokens = 1, .num_score_rows = 1}}};
  for (int i = 0; i < 1000; ++i) pace.observe(decode, machine.seconds(decode));
  EXPECT_EQ(pace.costs().most_prompt_tokens, 190.0);
  for (int i = 0; i < 100; ++i) observe(32);
  EXPECT_EQ(pace.costs().most_prompt_tokens, 64.0);
}

// One step in eight loses 50 ms to somebody else, as beside a task of real time: what a step costs
// is learned from the others, and that much is kept back of the limit all the same.
TEST(StepPace, StepsThatWaitedForTheirCoreSayLittleOfWhatStepsCost) {
  Machine machine{.costs = kSmall, .noise = 0.01};
  StepPace pace(160);
  StepPlan plan{.rows = {{.first_position = 700, .num_tokens = 96}}};
  for (int i = 0; i < 64; ++i) {
    plan.rows.push_back({.first_position = 700, .num_tokens = 1, .num_score_rows = 1});
  }
  for (int i = 0; i < 400; ++i) {
    const double delay = i % 8 == 0 ? 0.05 : 0.0;
    plan.rows[0].num_tokens = 32 * (1 + i % 5);
    pace.observe(plan, machine.seconds(plan) + delay, delay);
  }
  machine.noise = 0.0;
  EXPECT_NEAR(pace.predict(plan), machine.seconds(plan), 0.03 * machine.seconds(plan));
  EXPECT_LT(pace.costs().limit, 0.150);
  EXPECT_GT(pace.costs().limit, 0.080);
}

// Where every step is delayed, that is what steps take.
TEST(StepPace, DelaysOfEveryStepAreLearned) {
  StepPace pace(160);
  const StepPlan plan{.rows = {{.first_position = 0, .num_tokens = 64}}};
  for (int i = 0; i < 300; ++i) pace.observe(plan, 0.1, 0.06);
  EXPECT_NEAR(pace.predict(plan), 0.1, 0.003);
}

TEST(StepPace, WithoutALimitThereAreNoCosts) {
  StepPace pace(0);
  pace.observe({.rows = {{.num_tokens = 10}}}, 1.0);
  EXPECT_EQ(pace.costs().limit, 0.0);
  EXPECT_EQ(pace.costs().prompt_token, 0.0);
}

TEST(StepPace, AStepIsJudgedByTheLimitAndByWhoHadTheCore) {
  EXPECT_FALSE(StepPace(0).judge(1.0, 1.0));
  const StepPace pace(100);
  EXPECT_FALSE(pace.judge(0.114, 0.0)->over);
  EXPECT_TRUE(pace.judge(0.116, 0.0)->over);
  EXPECT_FALSE(pace.judge(0.116, 0.003)->disturbed);
  EXPECT_TRUE(pace.judge(0.116, 0.004)->disturbed);
  EXPECT_TRUE(pace.judge(0.050, 0.004)->disturbed);
}

TEST(StepPace, TheFirstChunkIsSmall) {
  const StepCosts costs = StepPace(50).costs();
  EXPECT_GT(costs.limit, 0.0);
  EXPECT_LE(costs.limit / costs.prompt_token, 64.0);
}

}  // namespace
}  // namespace tidemill

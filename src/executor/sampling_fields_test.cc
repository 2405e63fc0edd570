// What a request asks of sampling, seen in its answer: every token that comes out obeys it, alone
// and in a crowd, after preemption and behind a prefix that was found.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "executor/executor_fixture.h"
#include "executor/network_fixture.h"

namespace tidemill {
namespace {

class SamplingFields : public testing::Test {
 protected:
  static GenerationFields fields(int which = 0, int length = 30) {
    return {.prompts = {TokenPrompt{.ids = random_prompt(length, which)}},
            .max_new_tokens = 40,
            .temperature = 0.9,
            .seed = 17,
            .num_logprobs = 0};
  }
  static TokenBits answer(RunningNetwork& network, GenerationFields of) {
    ResponseStream stream = network.submit(std::move(of));
    return read_choices(stream).at(0);
  }
  static std::set<TokenId> ids(const TokenBits& tokens) {
    std::set<TokenId> ids;
    for (const auto& [id, logprob] : tokens) ids.insert(id);
    return ids;
  }
  WorkerPool workers_{{.num_threads = 2, .pin = false}};
};

TEST_F(SamplingFields, OnlyAllowedIdsAndNoneThatABiasShutsOutAreGenerated) {
  RunningNetwork network(1, workers_, 64, {});
  GenerationFields of = fields();
  of.allowed_token_ids = {3, 5, 8, 13};
  of.logit_bias = {{5, -100.0}};
  const std::set<TokenId> seen = ids(answer(network, of));
  const std::set<TokenId> left = {3, 8, 13};
  EXPECT_TRUE(std::includes(left.begin(), left.end(), seen.begin(), seen.end()));
  EXPECT_GT(seen.size(), 1u);
}

TEST_F(SamplingFields, APresenceThatCostsEnoughRepeatsNothing) {
  RunningNetwork network(1, workers_, 64, {});
  GenerationFields of = fields();
  of.temperature = 0;
  EXPECT_LT(ids(answer(network, of)).size(), 40u) << "without it, it repeats itself";
  // A ban at once: what was generated is out of reach afterwards.
  of.presence_penalty = 2.0;
  of.frequency_penalty = 2.0;
  of.repetition_penalty = 10.0;
  EXPECT_GT(ids(answer(network, of)).size(), 20u);
}

// All of it together, in a pool so small that sequences are preempted, and with prefixes found.
TEST_F(SamplingFields, PenaltiesKnowTheirTokensAfterPreemptionAndAPrefixHit) {
  const auto asked = [](int i) {
    GenerationFields of = fields(i % 3, 20 + 7 * (i % 3));
    of.repetition_penalty = 1.3;
    of.frequency_penalty = 0.4;
    of.presence_penalty = -0.2;
    of.min_p = 0.01;
    of.typical_p = 0.95;
    of.logit_bias = {{7, 1.5}};
    return of;
  };
  std::vector<TokenBits> alone;
  {
    RunningNetwork roomy(1, workers_, 64, {.prefix_cache = false});
    for (int i = 0; i < 3; ++i) alone.push_back(answer(roomy, asked(i)));
    EXPECT_NE(alone[0], answer(roomy, fields(0, 20))) << "the fields change nothing";
  }
  RunningNetwork tight(1, workers_, 9, {.max_step_tokens = 48, .min_chunk_tokens = 32});
  // In one request: they come together, however fast the loop is.
  GenerationFields all = asked(0);
  for (int i = 1; i < 6; ++i) all.prompts.push_back(asked(i).prompts[0]);
  ResponseStream stream = tight.submit(std::move(all));
  const std::vector<TokenBits> choices = read_choices(stream);
  for (size_t i = 0; i < choices.size(); ++i) EXPECT_EQ(choices[i], alone[i % 3]) << i;
  tight.expect_at_least("vllm:num_preemptions_total", 1);
}

TEST_F(SamplingFields, ChoiceNoughtOfManyIsTheOneOfOne) {
  RunningNetwork network(1, workers_, 64, {});
  const TokenBits alone = answer(network, fields());
  GenerationFields of = fields();
  of.num_choices = 4;
  ResponseStream stream = network.submit(of);
  const std::vector<TokenBits> choices = read_choices(stream);
  EXPECT_EQ(choices[0], alone);
  EXPECT_EQ(std::set<TokenBits>(choices.begin(), choices.end()).size(), 4u);
}

double mean_logprob(const TokenBits& tokens) {
  double sum = 0.0;
  for (const auto& [id, logprob] : tokens) sum += double{logprob};
  return sum / static_cast<double>(tokens.size());
}

TEST_F(SamplingFields, BestOfShowsThoseWithTheHighestMeanAndCountsAll) {
  RunningNetwork network(1, workers_, 64, {});
  GenerationFields of = fields();
  of.prompts.push_back(TokenPrompt{.ids = random_prompt(25, 4)});
  of.num_choices = 6;
  ResponseStream all = network.submit(of);
  std::vector<TokenBits> expected = read_choices(all);
  for (auto begin = expected.begin(); begin != expected.end(); begin += 6) {
    std::stable_sort(begin, begin + 6, [](const TokenBits& a, const TokenBits& b) {
      return mean_logprob(a) > mean_logprob(b);
    });
  }
  of.num_choices = 2;
  of.best_of = 6;
  of.num_logprobs = -1;  // they are needed all the same
  ResponseStream best = network.submit(of);
  EXPECT_EQ(best.num_choices(), 4);
  const std::vector<TokenBits> shown = read_choices(best);
  EXPECT_THAT(shown, testing::ElementsAre(expected[0], expected[1], expected[6], expected[7]));
  EXPECT_EQ(best.completion_tokens(), 12 * 40);
  EXPECT_EQ(best.prompt_tokens(), (std::vector<int64_t>{30, 25}));
}

class BestOf : public ExecutorTest {};

TEST_F(BestOf, NothingIsToldBeforeTheEnd) {
  start({.step_ms = 1, .rules = {rule("*", "abc END def")}});
  GenerationFields of = fields("x");
  of.best_of = 3;
  of.stop_strings = {"END"};
  ResponseStream stream = submit(of);
  for (;;) {
    const ResponseStream::Poll poll = stream.wait();
    EXPECT_EQ(poll.ended, !poll.events.empty());
    if (!poll.ended) continue;
    ASSERT_EQ(poll.events.size(), 1u);
    EXPECT_EQ(poll.events[0].text, "abc ");
    EXPECT_EQ(poll.events[0].tokens.size(), 7u);
    EXPECT_EQ(poll.events[0].finish->reason, FinishReason::kStopString);
    break;
  }
  EXPECT_EQ(stream.completion_tokens(), 21);
  expect_quiet();
}

TEST_F(BestOf, CancellingItFreesAllOfThem) {
  start({.step_ms = 2, .rules = {rule("*", std::string(1000, 'x'))}});
  GenerationFields of = fields(std::string(100, 'p'));
  of.best_of = 8;
  {
    ResponseStream stream = submit(of);
    while (executor_->stats().running < 8) std::this_thread::yield();
  }
  expect_quiet();
}

TEST_F(BestOf, AFailureIsTheAnswerOfAll) {
  ScriptRule bad = rule("*", "abcdef");
  bad.fail_at = 3;
  start({.rules = {bad}});
  GenerationFields of = fields("x");
  of.best_of = 3;
  const Answer answer = ask(of);
  EXPECT_EQ(answer.error->kind, ErrorKind::kNumericalError);
  EXPECT_EQ(answer.texts[0], "");
  expect_quiet();
}

TEST_F(BestOf, NothingToGenerateShowsAsManyAsAskedFor) {
  start({.rules = {rule("*", "a")}});
  GenerationFields of = fields("x");
  of.best_of = 3;
  of.num_choices = 2;
  of.max_new_tokens = 0;
  ResponseStream stream = submit(of);
  EXPECT_EQ(read(stream).finishes.size(), 2u);
  EXPECT_EQ(stream.completion_tokens(), 0);
}

class PromptFields : public ExecutorTest {};

TEST_F(PromptFields, TruncationKeepsTheLastTokens) {
  start({.max_model_len = 40, .rules = {rule("*", "a")}});
  GenerationFields of = fields("0123456789");
  const auto seen = [&](int64_t most) {
    of.truncate_prompt_tokens = most;
    ResponseStream stream = submit(of);
    read(stream);
    EXPECT_EQ(stream.prompt_tokens()[0], std::ssize(stream.prompt_ids(0)));
    return stream.prompt_text(0);
  };
  EXPECT_EQ(seen(9), "123456789");
  EXPECT_EQ(seen(10), "0123456789");
  EXPECT_EQ(seen(11), "0123456789");
  EXPECT_EQ(seen(1), "9");
  // What is left counts against the model's length.
  of.prompts = {TextPrompt{.text = std::string(100, 'x')}};
  of.max_new_tokens = 10;
  EXPECT_EQ(seen(30), std::string(30, 'x'));
  of.truncate_prompt_tokens = 31;
  EXPECT_EQ(executor_->submit(request(of)).error().kind, ErrorKind::kPromptTooLong);
}

TEST_F(PromptFields, I_1_APrefixIsSharedUnderOneSaltOnly) {
  start({.rules = {rule("*", "a")}});
  const auto cached = [&](std::optional<std::string> salt) {
    GenerationFields of = fields(std::string(100, 'p'));
    of.cache_salt = std::move(salt);
    ResponseStream stream = submit(of);
    read(stream);
    return stream.cached_tokens();
  };
  EXPECT_EQ(cached(std::nullopt), 0);
  EXPECT_EQ(cached("mine"), 0);
  EXPECT_EQ(cached("yours"), 0);
  EXPECT_EQ(cached("mine"), 96);
  EXPECT_EQ(cached(std::nullopt), 96);
}

TEST_F(PromptFields, Q_9_WhoMattersMoreIsAdmittedFirst) {
  ExecutorOptions options;
  options.scheduler.max_sequences = 1;
  start({.step_ms = 2, .rules = {rule("*", std::string(60, 'x'))}}, options);
  ResponseStream running = submit(fields("a"));
  running.wait();  // its first token: it is in, and will be for a while
  GenerationFields of = fields("b");
  of.priority = 5;
  ResponseStream later = submit(of);
  of.priority = -5;
  ResponseStream sooner = submit(of);
  read(running);
  read(sooner);
  read(later);
  EXPECT_LT(sooner.times().first_token, later.times().first_token);
  EXPECT_GT(sooner.times().first_token, running.times().last_token);
}

// The byte tokenizer's words have as many tokens as letters.
TEST_F(PromptFields, BadWordsAreSpelledWithAndWithoutABlank) {
  class Watch : public ScriptRunner {
   public:
    using ScriptRunner::ScriptRunner;
    StepResult& run(const StepInput& input) override {
      for (size_t row = 0; row < input.sampling.size(); ++row) {
        const auto ids = input.changes(row).forbidden;
        seen.emplace_back(ids.begin(), ids.end());
      }
      return ScriptRunner::run(input);
    }
    std::vector<std::vector<TokenId>> seen;
  };
  const Script script{.rules = {rule("*", "a b a")}};
  auto runner = std::make_unique<Watch>(script);
  const Watch& watch = *runner;
  start(std::move(runner), script, {});
  GenerationFields of = fields("x");
  of.bad_words = {"ax", " b!", "q"};
  ask(of);
  expect_quiet();
  using testing::ElementsAre;
  using testing::UnorderedElementsAre;
  ASSERT_EQ(watch.seen.size(), 6u);
  EXPECT_THAT(watch.seen[0], UnorderedElementsAre('q'));
  EXPECT_THAT(watch.seen[1], UnorderedElementsAre('q', 'x')) << "behind a";
  EXPECT_THAT(watch.seen[2], UnorderedElementsAre('q', 'q')) << "behind a blank";
  EXPECT_THAT(watch.seen[3], UnorderedElementsAre('q', '!', '!')) << "behind a blank and b";
}

}  // namespace
}  // namespace tidemill

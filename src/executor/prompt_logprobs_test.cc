// Log-probabilities of a prompt's own tokens: the bits that generating them would have told,
// whatever the chunks, the neighbours and the prefix cache.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executor/executor_fixture.h"
#include "executor/network_fixture.h"

namespace tidemill {
namespace {

// Ids and bits, those of the alternatives included.
using Scores = std::vector<std::pair<TokenId, TokenBits>>;

Scores scores_of(const ResponseStream& stream, int64_t prompt = 0) {
  Scores scores;
  for (const TokenText& token : stream.prompt_logprobs(prompt)) {
    TokenBits bits = {{token.id, token.logprob}};
    for (const auto& other : token.top) bits.emplace_back(other.id, other.logprob);
    scores.emplace_back(token.id, std::move(bits));
  }
  return scores;
}

class PromptLogprobs : public testing::Test {
 protected:
  static GenerationFields fields(std::vector<TokenId> prompt, int64_t max_new_tokens) {
    return {.prompts = {TokenPrompt{.ids = std::move(prompt)}},
            .max_new_tokens = max_new_tokens,
            .temperature = 0.9,
            .seed = 17,
            .num_prompt_logprobs = 3};
  }
  static Scores scores(RunningNetwork& network, GenerationFields of) {
    ResponseStream stream = network.submit(std::move(of));
    read_choices(stream);
    return scores_of(stream);
  }
  WorkerPool workers_{{.num_threads = 2, .pin = false}};
};

TEST_F(PromptLogprobs, AreThoseThatGeneratingTheSameTokensHad) {
  RunningNetwork network(1, workers_, 64, {});
  std::vector<TokenId> prompt = random_prompt(30, 0);
  GenerationFields generate = fields(prompt, 40);
  generate.num_prompt_logprobs = -1;
  generate.num_logprobs = 3;
  ResponseStream generated = network.submit(generate);
  std::vector<TokenText> tokens;
  for (bool ended = false; !ended;) {
    const ResponseStream::Poll poll = generated.wait();
    for (const TextEvent& event : poll.events) {
      tokens.insert(tokens.end(), event.tokens.begin(), event.tokens.end());
    }
    ended = poll.ended;
  }
  EXPECT_TRUE(generated.prompt_logprobs(0).empty()) << "nobody asked";
  for (const TokenText& token : tokens) prompt.push_back(token.id);
  ResponseStream stream = network.submit(fields(prompt, 0));
  read_choices(stream);
  const std::vector<TokenText> scored = stream.prompt_logprobs(0);
  ASSERT_EQ(scored.size(), 70u);
  EXPECT_EQ(scored[0].logprob, 0.0f);
  EXPECT_TRUE(scored[0].top.empty());
  for (size_t i = 0; i < tokens.size(); ++i) {
    const TokenText& of_prompt = scored[30 + i];
    EXPECT_EQ(of_prompt.id, tokens[i].id);
    EXPECT_EQ(of_prompt.logprob, tokens[i].logprob) << i;
    ASSERT_EQ(of_prompt.top.size(), 3u);
    for (size_t t = 0; t < 3; ++t) {
      EXPECT_EQ(of_prompt.top[t].id, tokens[i].top[t].id);
      EXPECT_EQ(of_prompt.top[t].logprob, tokens[i].top[t].logprob);
    }
  }
}

TEST_F(PromptLogprobs, AreTheSameBitsForAnyChunkingAndBesideOthers) {
  const std::vector<TokenId> prompt = random_prompt(150, 2);
  std::optional<Scores> known;
  for (const int32_t max_step_tokens : {1, 7, 48, 512}) {
    for (const int32_t max_sequences : {1, 5, 32}) {
      RunningNetwork network(1, workers_, 64,
                             {.max_sequences = max_sequences, .max_step_tokens = max_step_tokens});
      ResponseStream neighbour = network.submit(random_prompt(40, 1), 0.9);
      const Scores found = scores(network, fields(prompt, 3));
      ASSERT_EQ(found.size(), 150u);
      if (!known) known = found;
      EXPECT_EQ(found, *known) << max_step_tokens << " tokens, " << max_sequences << " sequences";
      read_choices(neighbour);
    }
  }
}

TEST_F(PromptLogprobs, AreWholeBehindACachedPrefixAndChangeNothingOfTheAnswer) {
  RunningNetwork network(1, workers_, 64, {});
  const std::vector<TokenId> prompt = random_prompt(100, 1);
  GenerationFields plain = fields(prompt, 20);
  plain.num_prompt_logprobs = -1;
  ResponseStream cold = network.submit(plain);
  const auto answer = read_choices(cold);
  for (int round = 0; round < 2; ++round) {
    ResponseStream scored = network.submit(fields(prompt, 20));
    EXPECT_EQ(read_choices(scored), answer);
    EXPECT_EQ(scored.cached_tokens(), 0) << "it must compute what it scores";
    EXPECT_EQ(scores_of(scored).size(), 100u);
  }
  ResponseStream warm = network.submit(plain);
  EXPECT_EQ(read_choices(warm), answer);
  EXPECT_EQ(warm.cached_tokens(), 96);
}

TEST_F(PromptLogprobs, SurvivePreemption) {
  std::vector<Scores> alone;
  {
    RunningNetwork roomy(1, workers_, 64, {});
    for (int i = 0; i < 6; ++i) {
      alone.push_back(scores(roomy, fields(random_prompt(60 + 7 * i, i), 40)));
    }
  }
  RunningNetwork tight(1, workers_, 9, {.max_step_tokens = 48, .min_chunk_tokens = 32});
  std::vector<ResponseStream> streams;
  for (int i = 0; i < 6; ++i) {
    streams.push_back(tight.submit(fields(random_prompt(60 + 7 * i, i), 40)));
  }
  for (size_t i = 0; i < streams.size(); ++i) {
    read_choices(streams[i]);
    EXPECT_EQ(scores_of(streams[i]), alone[i]) << i;
  }
  tight.expect_at_least("vllm:num_preemptions_total", 1);
  tight.expect_quiet();
}

TEST_F(PromptLogprobs, WorkForOneTokenAndForTheLongestPrompt) {
  RunningNetwork network(1, workers_, 64, {});
  EXPECT_EQ(scores(network, fields({5}, 0)).size(), 1u);
  EXPECT_EQ(scores(network, fields({5}, 2)).size(), 1u);
  EXPECT_EQ(scores(network, fields(random_prompt(kRandomModelLen, 1), 0)).size(),
            static_cast<size_t>(kRandomModelLen));
  network.expect_quiet();
}

class PromptLogprobsText : public ExecutorTest {
 protected:
  // As script_runner.h says.
  static float score(TokenId id, size_t position) {
    return -0.125f * static_cast<float>(1 + (static_cast<size_t>(id) + position) % 8);
  }
};

TEST_F(PromptLogprobsText, EachPromptAndChoiceHasItsOwnWithItsText) {
  start({.rules = {rule("*", "ok")}});
  GenerationFields of = fields("h\u00e9llo");
  of.prompts.push_back(TextPrompt{.text = "two"});
  of.num_prompt_logprobs = 0;
  of.num_choices = 2;
  ResponseStream stream = submit(of);
  EXPECT_THAT(read(stream).texts, testing::Each("ok"));
  for (int64_t prompt = 0; prompt < 2; ++prompt) {
    const std::vector<TokenText> tokens = stream.prompt_logprobs(prompt);
    const std::vector<TokenId>& ids = stream.prompt_ids(prompt);
    ASSERT_EQ(tokens.size(), ids.size());
    std::string text;
    for (size_t i = 0; i < tokens.size(); ++i) {
      EXPECT_EQ(tokens[i].id, ids[i]);
      EXPECT_EQ(tokens[i].logprob, i == 0 ? 0.0f : score(ids[i], i)) << i;
      text += tokens[i].text;
    }
    EXPECT_EQ(text, prompt == 0 ? "h\u00e9llo" : "two");
  }
  expect_quiet();
}

TEST_F(PromptLogprobsText, NothingToGenerateEndsWithTheLengthAndFreesItsPlace) {
  ExecutorOptions options;
  options.scheduler.max_sequences = 2;
  options.job_queue_size = 1;
  start({.rules = {rule("*", "ok")}}, options);
  for (int round = 0; round < 5; ++round) {
    GenerationFields of = fields("hello");
    of.max_new_tokens = 0;
    of.num_choices = 3;
    of.num_prompt_logprobs = 2;
    ResponseStream stream = submit(of);
    const Answer answer = read(stream);
    EXPECT_FALSE(answer.error);
    for (const Finish& finish : answer.finishes) {
      EXPECT_EQ(finish.reason, FinishReason::kLength);
      EXPECT_EQ(finish.completion_tokens, 0);
    }
    EXPECT_EQ(stream.completion_tokens(), 0);
    const std::vector<TokenText> tokens = stream.prompt_logprobs(0);
    ASSERT_EQ(tokens.size(), 5u);
    EXPECT_EQ(tokens[4].top.size(), 2u);
  }
  expect_quiet();
  EXPECT_EQ(count("vllm:request_success_total", ",finished_reason=\"length\""), 15);
}

}  // namespace
}  // namespace tidemill

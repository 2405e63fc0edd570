// Drafts, seen from outside: everything that a client receives is the same with them and without,
// to the bits of the log-probabilities. From a sequence's own text, and from a draft model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "executor/executor_fixture.h"
#include "executor/network_fixture.h"

namespace tidemill {
namespace {

// What a client sees of one choice.
struct Seen {
  struct Token {
    TokenId id = 0;
    float logprob = 0;
    std::vector<std::pair<TokenId, float>> top;
    bool operator==(const Token&) const = default;
  };
  std::vector<Token> tokens;
  FinishReason reason = FinishReason::kLength;
  int64_t completion_tokens = 0;
  bool operator==(const Seen&) const = default;
};

std::vector<Seen> read_seen(ResponseStream stream) {
  std::vector<Seen> choices(static_cast<size_t>(stream.num_choices()));
  for (;;) {
    const ResponseStream::Poll poll = stream.wait();
    EXPECT_FALSE(poll.error) << poll.error->message;
    for (const TextEvent& event : poll.events) {
      Seen& of = choices.at(static_cast<size_t>(event.choice));
      for (const TokenText& token : event.tokens) {
        Seen::Token& seen = of.tokens.emplace_back();
        seen.id = token.id;
        seen.logprob = token.logprob;
        for (const auto& other : token.top) seen.top.emplace_back(other.id, other.logprob);
      }
      if (!event.finish) continue;
      of.reason = event.finish->reason;
      of.completion_tokens = event.finish->completion_tokens;
    }
    if (poll.ended) return choices;
  }
}

// Of requests whose texts repeat themselves more or less: a few ids are allowed or preferred, so
// that guesses are right and wrong in turn.
GenerationFields random_request(std::mt19937_64& random) {
  const auto draw = [&](int from, int to) {
    return from + static_cast<int>(random() % static_cast<uint64_t>(to - from + 1));
  };
  const auto any_of = [&](std::initializer_list<double> values) {
    return *(values.begin() + draw(0, static_cast<int>(values.size()) - 1));
  };
  GenerationFields fields{.max_new_tokens = draw(1, 120)};
  std::vector<TokenId> prompt = random_prompt(draw(2, 40), draw(0, 3));
  if (draw(0, 1) == 1) prompt.insert(prompt.end(), prompt.begin(), prompt.end());
  fields.prompts = {TokenPrompt{.ids = std::move(prompt)}};
  fields.temperature = any_of({0, 0, 0.2, 0.6, 1.0});
  fields.seed = static_cast<uint64_t>(draw(1, 1000));
  fields.num_logprobs = draw(0, 3);
  if (draw(0, 2) == 0) fields.top_k = draw(1, 8);
  if (draw(0, 2) == 0) fields.top_p = any_of({0.3, 0.9});
  if (draw(0, 3) == 0) fields.min_p = 0.05;
  if (draw(0, 3) == 0) fields.typical_p = 0.9;
  if (draw(0, 3) == 0) fields.repetition_penalty = any_of({0.8, 1.1});
  if (draw(0, 3) == 0) fields.frequency_penalty = any_of({-0.3, 0.05});
  if (draw(0, 3) == 0) fields.presence_penalty = any_of({-1.0, 0.3});
  if (draw(0, 2) == 0) {
    const int first = draw(0, 50);
    fields.allowed_token_ids = {first, first + 1, first + 2};
  }
  if (draw(0, 2) == 0) fields.logit_bias = {{draw(0, 60), 4.0}, {draw(0, 60), 3.5}};
  if (draw(0, 3) == 0) fields.min_new_tokens = draw(1, static_cast<int>(*fields.max_new_tokens));
  if (draw(0, 2) == 0) fields.stop_token_ids = {draw(0, 60), draw(0, 60)};
  if (draw(0, 3) == 0) fields.num_choices = draw(2, 3);
  if (draw(0, 3) == 0) fields.num_prompt_logprobs = draw(0, 2);
  return fields;
}

struct Drafted {
  int64_t proposed = 0;
  int64_t accepted = 0;
};

// The answers of 48 requests of a seed, so many at once.
std::vector<std::vector<Seen>> answers(const SchedulerOptions& options, int64_t num_blocks,
                                       WorkerPool& workers, size_t at_once, Drafted* drafted,
                                       uint64_t draft_seed = 1) {
  RunningNetwork network(1, workers, num_blocks, options, /*watches_cores=*/false, draft_seed);
  std::mt19937_64 random(7);
  std::vector<std::vector<Seen>> all;
  for (int left = 48; left > 0; left -= static_cast<int>(at_once)) {
    std::vector<ResponseStream> streams;
    for (size_t i = 0; i < at_once; ++i) streams.push_back(network.submit(random_request(random)));
    for (ResponseStream& stream : streams) all.push_back(read_seen(std::move(stream)));
  }
  network.expect_quiet();
  if (drafted != nullptr) {
    *drafted = {.proposed = network.count("vllm:spec_decode_num_draft_tokens_total"),
                .accepted = network.count("vllm:spec_decode_num_accepted_tokens_total")};
  }
  return all;
}

void expect_same(const std::vector<std::vector<Seen>>& drafted,
                 const std::vector<std::vector<Seen>>& plain) {
  ASSERT_EQ(drafted.size(), plain.size());
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(drafted[i] == plain[i]) << "request " << i;
}

TEST(Speculation, EveryAnswerIsTheSameBitsWithAndWithoutDrafts) {
  WorkerPool workers({.num_threads = 2, .pin = false});
  const auto plain = answers({.speculative = "off"}, 64, workers, 8, nullptr);
  Drafted drafted;
  expect_same(answers({.speculative = "ngram", .free_tokens = 64}, 64, workers, 8, &drafted),
              plain);
  EXPECT_GT(drafted.accepted, 200);
  EXPECT_GT(drafted.proposed - drafted.accepted, 20);
  // In a crowd that has too few blocks, with small steps; and alone.
  expect_same(answers({.max_step_tokens = 48,
                       .speculative = "ngram",
                       .free_tokens = 24,
                       .min_chunk_tokens = 32},
                      12, workers, 24, &drafted),
              plain);
  EXPECT_GT(drafted.accepted, 100);
  expect_same(answers({.speculative = "ngram", .speculative_length = 3}, 64, workers, 1, &drafted),
              plain);
  EXPECT_GT(drafted.accepted, 200);
}

// A draft model that is the model itself, and one that knows nothing of it.
TEST(Speculation, EveryAnswerIsTheSameBitsWithADraftModel) {
  WorkerPool workers({.num_threads = 2, .pin = false});
  const auto plain = answers({.speculative = "off"}, 64, workers, 8, nullptr);
  const SchedulerOptions drafting{.free_tokens = 64, .draft_model_cost = 0.01};
  Drafted twin;
  expect_same(answers(drafting, 64, workers, 8, &twin), plain);
  // It knows nothing of penalties, and of tokens that may not come yet.
  EXPECT_GT(twin.accepted, 900);
  EXPECT_GT(twin.accepted, twin.proposed / 3);
  Drafted stranger;
  expect_same(answers(drafting, 64, workers, 8, &stranger, /*draft_seed=*/2), plain);
  EXPECT_GT(stranger.proposed, 200);
  EXPECT_LT(stranger.proposed, twin.proposed) << "who is wrong rests";
  // In a crowd that has too few blocks, with small steps; and alone.
  SchedulerOptions small = drafting;
  small.max_step_tokens = 48;
  small.min_chunk_tokens = 32;
  expect_same(answers(small, 12, workers, 24, &twin), plain);
  EXPECT_GT(twin.accepted, 50);
  expect_same(answers(drafting, 64, workers, 1, &twin), plain);
  EXPECT_GT(twin.accepted, 1000);
}

// Without what changes logits the twin is right about everything, whatever the temperature.
TEST(Speculation, ATwinDraftsWhatIsDrawn) {
  WorkerPool workers({.num_threads = 2, .pin = false});
  for (const double temperature : {0.0, 0.7, 1.3}) {
    RunningNetwork network(1, workers, 64, {.draft_model_cost = 0.01});
    ResponseStream stream = network.submit(random_prompt(20, 1), temperature);
    EXPECT_EQ(read_choices(stream).at(0).size(), 40u);
    network.expect_quiet();
    network.expect_at_least("vllm:spec_decode_num_draft_tokens_total", 25);
    const int64_t proposed = network.count("vllm:spec_decode_num_draft_tokens_total");
    EXPECT_EQ(network.count("vllm:spec_decode_num_accepted_tokens_total"), proposed) << temperature;
  }
}

// Models of one family differ in how many tokens they have room for.
TEST(Speculation, ADraftModelMayHaveFewerTokensAndMore) {
  WorkerPool workers({.num_threads = 2, .pin = false});
  GenerationFields fields{.prompts = {TokenPrompt{.ids = random_prompt(20, 1)}},
                          .max_new_tokens = 40,
                          .temperature = 1.0,
                          .seed = 3};
  fields.logit_bias = {{kRandomVocabSize - 1, 6.0}};
  std::get<TokenPrompt>(fields.prompts[0]).ids.push_back(kRandomVocabSize - 1);
  std::vector<TokenBits> plain;
  for (const int32_t draft_vocab_size : {0, 30, kRandomVocabSize + 40}) {
    SchedulerOptions options{.speculative = "off"};
    if (draft_vocab_size > 0) options = {.draft_model_cost = 0.01};
    RunningNetwork network(1, workers, 64, options, /*watches_cores=*/false, /*draft_seed=*/2,
                           draft_vocab_size);
    ResponseStream stream = network.submit(fields);
    const std::vector<TokenBits> answer = read_choices(stream);
    if (draft_vocab_size == 0) {
      plain = answer;
      continue;
    }
    EXPECT_EQ(answer, plain) << draft_vocab_size;
    network.expect_at_least("vllm:spec_decode_num_draft_tokens_total", 1);
  }
}

class SpeculatingExecutor : public ExecutorTest {
 protected:
  static constexpr const char* kRound = "one two three four five six seven eight nine ten. ";

  void start_speculating(ScriptRule rule) {
    start({.rules = {std::move(rule)}}, {.scheduler = {.speculative = "ngram"}});
  }
  static ScriptRule rounds(int count) {
    std::string reply;
    for (int i = 0; i < count; ++i) reply += kRound;
    return rule("*", reply);
  }
  // The loop tells its counts a moment after the last token.
  void expect_accepted(int64_t least) {
    const auto accepted = [this] { return count("vllm:spec_decode_num_accepted_tokens_total"); };
    for (int i = 0; i < 2000 && accepted() < least; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    EXPECT_GE(accepted(), least);
    EXPECT_GE(count("vllm:spec_decode_num_draft_tokens_total"), accepted());
  }
};

TEST_F(SpeculatingExecutor, TextComesInOrderAndIsCountedAsWithout) {
  start_speculating(rounds(6));
  GenerationFields of = fields("count");
  of.max_new_tokens = 1000;
  ResponseStream stream = submit(of);
  const Answer answer = read(stream);
  std::string expected;
  for (int i = 0; i < 6; ++i) expected += kRound;
  EXPECT_EQ(answer.texts[0], expected);
  EXPECT_EQ(answer.finishes[0].reason, FinishReason::kEndToken);
  EXPECT_EQ(stream.completion_tokens(), static_cast<int64_t>(expected.size()) + 1);
  expect_quiet();
  expect_accepted(150);
  EXPECT_GT(count("vllm:spec_decode_num_drafts_total"), 10);
  EXPECT_EQ(count("vllm:generation_tokens_total"), stream.completion_tokens());
}

TEST_F(SpeculatingExecutor, LimitsAndStopStringsEndTheTextAtTheirToken) {
  start_speculating(rounds(6));
  std::string whole;
  for (int i = 0; i < 6; ++i) whole += kRound;
  for (const int64_t length : {1, 2, 120, 121, 122, 133, 150, 200}) {
    GenerationFields of = fields("count");
    of.max_new_tokens = length;
    ResponseStream stream = submit(of);
    const Answer answer = read(stream);
    EXPECT_EQ(answer.texts[0], whole.substr(0, static_cast<size_t>(length)));
    EXPECT_EQ(answer.finishes[0].reason, FinishReason::kLength);
    EXPECT_EQ(stream.completion_tokens(), length);
  }
  // In the third round, whatever was computed behind it.
  GenerationFields of = fields("count");
  of.max_new_tokens = 1000;
  of.stop_strings = {"ten. one two three four five six seven eight nine ten. one two"};
  ResponseStream stream = submit(of);
  const Answer answer = read(stream);
  EXPECT_EQ(answer.texts[0], whole.substr(0, whole.find("ten.")));
  EXPECT_EQ(answer.finishes[0].reason, FinishReason::kStopString);
  EXPECT_EQ(stream.completion_tokens(),
            static_cast<int64_t>(answer.texts[0].size() + of.stop_strings[0].size()));
  expect_quiet();
  expect_accepted(300);
}

TEST_F(SpeculatingExecutor, ARowThatFailsBehindItsDraftsHasSaidEverythingBefore) {
  ScriptRule failing = rounds(6);
  failing.fail_at = 201;
  start_speculating(failing);
  GenerationFields of = fields("count");
  of.max_new_tokens = 1000;
  ResponseStream stream = submit(of);
  const Answer answer = read(stream);
  ASSERT_TRUE(answer.error);
  EXPECT_EQ(answer.error->kind, ErrorKind::kNumericalError);
  EXPECT_EQ(answer.texts[0].size(), 201u);
  expect_quiet();
}

// Of what does not repeat itself; every fifth draft is wrong.
TEST_F(SpeculatingExecutor, AModelsDraftsEndWhereTheTextDoes) {
  std::string reply;
  for (int i = 0; i < 300; ++i) reply += static_cast<char>('!' + i * i % 89);
  start({.rules = {rule("*", reply)}},
        {.scheduler = {.draft_model_cost = 0.1, .draft_model_len = 4096}});
  for (const int64_t length : {1, 2, 3, 33, 150, 1000}) {
    GenerationFields of = fields("draw");
    of.max_new_tokens = length;
    const Answer answer = ask(of);
    EXPECT_EQ(answer.texts[0], reply.substr(0, static_cast<size_t>(length)));
    EXPECT_EQ(answer.finishes[0].reason,
              length == 1000 ? FinishReason::kEndToken : FinishReason::kLength);
  }
  expect_quiet();
  expect_accepted(200);
}

TEST_F(SpeculatingExecutor, AReaderWhoLeavesInTheMiddleLeavesNothingBehind) {
  start_speculating(rounds(60));
  for (int i = 0; i < 20; ++i) {
    GenerationFields of = fields("count");
    of.max_new_tokens = 3000;
    ResponseStream stream = submit(of);
    while (stream.completion_tokens() < 10 * i) stream.wait();
  }
  expect_quiet();
}

}  // namespace
}  // namespace tidemill

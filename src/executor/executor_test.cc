// The running model with a script instead of weights: everything but the arithmetic is real, and
// the script checks every step against what it saw written before (script_runner.h).
#include "executor/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <thread>

#include "base/test_waiting.h"
#include "executor/executor_fixture.h"

namespace tidemill {
namespace {

using testing::HasSubstr;

TEST_F(ExecutorTest, AnAnswerIsItsTextAndItsReason) {
  start({.rules = {rule("weather", "It rains. é😀")}});
  const Answer answer = ask(fields("how is the weather?"));
  EXPECT_EQ(answer.texts[0], "It rains. é😀");
  EXPECT_EQ(answer.finishes[0].reason, FinishReason::kEndToken);
  EXPECT_EQ(answer.finishes[0].completion_tokens, 17);
  expect_quiet();
}

TEST_F(ExecutorTest, AStopStringAcrossTokensCutsTheTextAndIsCountedToItsEnd) {
  start({.rules = {rule("*", "one END two")}});
  GenerationFields of = fields("x");
  of.stop_strings = {"END"};
  const Answer answer = ask(of);
  EXPECT_EQ(answer.texts[0], "one ");
  EXPECT_EQ(answer.finishes[0].reason, FinishReason::kStopString);
  EXPECT_EQ(answer.finishes[0].stop_string, "END");
  EXPECT_EQ(answer.finishes[0].completion_tokens, 7);
  expect_quiet();
}

TEST_F(ExecutorTest, MostAndLeastTokensAreObeyed) {
  start({.rules = {rule("*", "abc")}});
  GenerationFields of = fields("x");
  of.max_new_tokens = 2;
  const Answer cut = ask(of);
  EXPECT_EQ(cut.texts[0], "ab");
  EXPECT_EQ(cut.finishes[0].reason, FinishReason::kLength);
  of.max_new_tokens = 0;
  EXPECT_EQ(ask(of).finishes[0].reason, FinishReason::kLength);
  of.max_new_tokens = 9;
  of.ignore_end = true;
  EXPECT_EQ(ask(of).texts[0], "abcabca");  // two ends among the nine
}

TEST_F(ExecutorTest, ChoicesAndPromptsOfOneRequestShareAStream) {
  start({.rules = {rule("one", "1"), rule("two", "2")}});
  GenerationFields of = fields("one");
  of.prompts.push_back(TextPrompt{.text = "two"});
  of.num_choices = 3;
  ResponseStream stream = submit(of);
  const Answer answer = read(stream);
  EXPECT_THAT(answer.texts, testing::ElementsAre("1", "1", "1", "2", "2", "2"));
  EXPECT_THAT(stream.prompt_tokens(), testing::ElementsAre(3, 3));
  EXPECT_EQ(stream.prompt_text(1), "two");
  expect_quiet();
}

TEST_F(ExecutorTest, MessagesGoThroughTheTemplate) {
  start({.rules = {rule("assistant\n", "hello")}});
  const JsonValue messages = JsonArray{JsonObject{{"role", "user"}, {"content", "hi"}}};
  EXPECT_EQ(ask({.prompts = {ChatPrompt{.messages = messages}}, .temperature = 0}).texts[0],
            "hello");
}

TEST_F(ExecutorTest, N_1_AFailedRowEndsItsRequestAlone) {
  ScriptRule bad = rule("bad", "abcdef");
  bad.fail_at = 3;
  start({.step_ms = 1, .rules = {bad, rule("*", "abcdefghijkl")}});
  ResponseStream good = submit(fields("good"));
  const Answer failed = ask(fields("bad"));
  EXPECT_EQ(failed.error->kind, ErrorKind::kNumericalError);
  EXPECT_EQ(read(good).texts[0], "abcdefghijkl");
  expect_quiet();
}

TEST_F(ExecutorTest, AThrowingRunnerGivesEveryStreamItsError) {
  ScriptRule bad = rule("bad", "abcdef");
  bad.throw_at = 2;
  ScriptRule slow = rule("*", std::string(2000, 'x'));
  start({.step_ms = 1, .rules = {bad, slow}});
  ResponseStream other = submit(fields("other"));
  EXPECT_EQ(ask(fields("bad")).error->kind, ErrorKind::kEngineError);
  EXPECT_EQ(read(other).error->kind, ErrorKind::kEngineError);
  EXPECT_TRUE(executor_->stats().failed);
  const auto refused = executor_->submit(request(fields("late")));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kEngineError);
}

TEST_F(ExecutorTest, P_5_TooLongIsRefusedWithTheThreeNumbers) {
  start({.max_model_len = 100, .num_blocks = 64});
  GenerationFields of = fields(std::string(90, 'x'));
  of.max_new_tokens = 20;
  const auto refused = executor_->submit(request(of));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kPromptTooLong);
  for (const char* number : {"90", "20", "110", "100"}) {
    EXPECT_THAT(refused.error().message, HasSubstr(number));
  }
  of.clamp_max_new_tokens = true;
  EXPECT_EQ(ask(of).finishes[0].completion_tokens <= 10, true);
}

TEST_F(ExecutorTest, Q_1_AFullQueueRefusesTheNext) {
  ExecutorOptions options;
  options.scheduler.max_sequences = 1;
  options.job_queue_size = 1;
  start({.step_ms = 5, .rules = {rule("*", std::string(1000, 'x'))}}, options);
  ResponseStream running = submit(fields("a"));
  ResponseStream waiting = submit(fields("b"));
  const auto refused = executor_->submit(request(fields("c")));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kQueueFull);
  running.cancel();
  waiting.cancel();
  expect_quiet();
  EXPECT_TRUE(executor_->submit(request(fields("c"))));
}

TEST_F(ExecutorTest, Q_2_DeadlinesEndWhatWaitsAndWhatRuns) {
  ExecutorOptions options;
  options.scheduler.max_sequences = 1;
  options.queue_timeout_ms = 60;
  options.request_timeout_ms = 300;
  start({.step_ms = 5, .rules = {rule("*", std::string(1000, 'x'))}}, options);
  ResponseStream running = submit(fields("a"));
  ResponseStream waiting = submit(fields("b"));
  EXPECT_EQ(read(waiting).error->kind, ErrorKind::kDeadline);
  EXPECT_EQ(read(running).error->kind, ErrorKind::kDeadline);
  expect_quiet();
}

TEST_F(ExecutorTest, DrainingRefusesTheNewAndFinishesTheOld) {
  start({.step_ms = 1, .rules = {rule("*", "abcdefgh")}});
  ResponseStream old = submit(fields("a"));
  executor_->drain();
  EXPECT_EQ(executor_->submit(request(fields("b"))).error().kind, ErrorKind::kDraining);
  EXPECT_EQ(read(old).texts[0], "abcdefgh");
}

TEST_F(ExecutorTest, UnloadingAnswersWhoStillWaits) {
  start({.step_ms = 2, .rules = {rule("*", std::string(3000, 'x'))}});
  ResponseStream stream = submit(fields("a"));
  executor_.reset();
  EXPECT_EQ(read(stream).error->kind, ErrorKind::kDraining);
}

TEST_F(ExecutorTest, Q_7_PreemptionDoesNotChangeText) {
  const std::string long_reply(150, 'y');
  ExecutorOptions options;
  options.scheduler.prefix_cache = false;
  start({.max_model_len = 256, .num_blocks = 12, .rules = {rule("*", long_reply)}}, options);
  GenerationFields together = fields(std::string(30, 'a'));  // one request: all begin at once
  together.prompts.resize(6, together.prompts.front());
  EXPECT_EQ(ask(together).texts, std::vector<std::string>(6, long_reply));
  expect_quiet();
  const std::string none = "vllm:num_preemptions_total{model_name=\"script\",engine=\"0\"} 0\n";
  // The loop publishes it a turn after the last step.
  EXPECT_TRUE(comes_true([&] { return metrics_.text().find(none) == std::string::npos; }))
      << "nothing was preempted";
}

TEST_F(ExecutorTest, Q_6_ASlowReaderIsPausedAndOthersGoOn) {
  ExecutorOptions options;
  options.stream_pause_bytes = 640;  // ten tokens
  options.stream_resume_bytes = 320;
  const std::string reply(200, 'z');
  start({.rules = {rule("*", reply)}}, options);
  ResponseStream slow = submit(fields("slow"));
  EXPECT_EQ(ask(fields("quick")).texts[0], reply);
  // The loop publishes it a turn after the quick one's end.
  EXPECT_TRUE(comes_true([&] { return executor_->stats().running == 0; }))
      << "the slow one goes on";
  EXPECT_FALSE(executor_->idle()) << "the slow one is paused, not done";
  EXPECT_EQ(read(slow).texts[0], reply);
  expect_quiet();
}

TEST_F(ExecutorTest, WhoeverIsNotifiedFindsSomethingAndSeesTheEnd) {
  start({.rules = {rule("*", "abcdef")}});
  ResponseStream stream = submit(fields("a"));
  std::mutex mutex;
  std::condition_variable ready;
  int calls = 0;
  stream.on_ready([&] {
    const std::lock_guard lock(mutex);
    ++calls;
    ready.notify_one();
  });
  std::string text;
  for (bool ended = false; !ended;) {
    std::unique_lock lock(mutex);
    ready.wait(lock, [&] { return calls > 0; });
    calls = 0;
    lock.unlock();
    const ResponseStream::Poll poll = stream.poll();
    for (const TextEvent& event : poll.events) text += event.text;
    ended = poll.ended;
  }
  EXPECT_EQ(text, "abcdef");
}

TEST_F(ExecutorTest, I6_HalfOf64StreamsLeaveAndNothingIsHeld) {
  start({.step_ms = 1, .rules = {rule("*", std::string(60, 'q'))}});
  std::vector<ResponseStream> streams;
  for (int i = 0; i < 64; ++i) streams.push_back(submit(fields("prompt " + std::to_string(i))));
  for (size_t i = 0; i < streams.size(); i += 2) streams[i].cancel();
  for (size_t i = 1; i < streams.size(); i += 2) {
    EXPECT_EQ(read(streams[i]).texts[0], std::string(60, 'q'));
  }
  expect_quiet();
}

TEST_F(ExecutorTest, Q_5_RandomCancellationsLeakNothing) {
  std::mt19937_64 random(21);
  start({.max_model_len = 512, .num_blocks = 64, .rules = {rule("*", std::string(40, 'r'))}});
  for (int round = 0; round < 40; ++round) {
    std::vector<ResponseStream> streams;
    for (int i = 0; i < 50; ++i) {
      GenerationFields of = fields(std::string(1 + random() % 200, 'p'));
      of.num_choices = 1 + static_cast<int64_t>(random() % 3);
      auto stream = executor_->submit(request(of));
      if (stream) streams.push_back(std::move(*stream));
      if (random() % 3 == 0 && !streams.empty()) {
        streams.erase(streams.begin() + static_cast<std::ptrdiff_t>(random() % streams.size()));
      }
    }
  }
  expect_quiet();
}

TEST_F(ExecutorTest, I15_CountersAddUp) {
  start({.rules = {rule("*", "abcd")}});
  for (int i = 0; i < 5; ++i) ask(fields("x" + std::to_string(i)));
  expect_quiet();
  const std::string page = metrics_.text();
  const std::string labels = "{model_name=\"script\",engine=\"0\"} ";
  EXPECT_THAT(page, HasSubstr("vllm:generation_tokens_total" + labels + "25\n"));
  EXPECT_THAT(page, HasSubstr("vllm:prompt_tokens_total" + labels + "10\n"));
  EXPECT_THAT(page, HasSubstr("vllm:time_to_first_token_seconds_count" + labels + "5\n"));
  EXPECT_THAT(page, HasSubstr("vllm:inter_token_latency_seconds_count" + labels + "20\n"));
  EXPECT_THAT(page, HasSubstr("finished_reason=\"stop\"} 5\n"));
  EXPECT_THAT(page, HasSubstr("vllm:num_requests_running" + labels + "0\n"));
}

TEST_F(ExecutorTest, TwoExecutorsDoNotKnowOfEachOther) {
  start({.rules = {rule("*", "first")}});
  MetricsRegistry metrics;
  ExecutorOptions options;
  options.max_model_len = 100;
  options.scheduler.groups = {{.num_blocks = 16}};
  Executor other(
      std::make_unique<ScriptRunner>(Script{.num_blocks = 16, .rules = {rule("*", "second")}}),
      text(), options, metrics, "other");
  auto stream = other.submit(request(fields("x")));
  EXPECT_EQ(ask(fields("x")).texts[0], "first");
  EXPECT_EQ(read(*stream).texts[0], "second");
}

TEST_F(ExecutorTest, P_5_WhatCouldNeverFitIsRefusedThoughTheModelIsLongEnough) {
  start({.max_model_len = 4096, .num_blocks = 4});
  GenerationFields of = fields(std::string(100, 'x'));
  of.max_new_tokens = 28;
  EXPECT_TRUE(executor_->submit(request(of)));
  of.max_new_tokens = 29;
  EXPECT_EQ(executor_->submit(request(of)).error().kind, ErrorKind::kPromptTooLong);
}

TEST_F(ExecutorTest, LeastTokensThatHaveNoRoomAreRefusedNotLowered) {
  start({.max_model_len = 64, .num_blocks = 8});
  GenerationFields of = fields(std::string(60, 'x'));
  of.min_new_tokens = 5;
  EXPECT_EQ(executor_->submit(request(of)).error().kind, ErrorKind::kPromptTooLong);
  of.min_new_tokens = 4;
  EXPECT_TRUE(executor_->submit(request(of)));
}

TEST_F(ExecutorTest, P_4_APromptWithoutATokenIsRefused) {
  start({});
  EXPECT_EQ(executor_->submit(request(fields(""))).error().kind, ErrorKind::kEmptyPrompt);
}

// A model with fewer ids than its tokenizer.
class SmallVocabulary : public ScriptRunner {
 public:
  using ScriptRunner::ScriptRunner;
  int32_t vocab_size() const override { return 256; }
};

TEST_F(ExecutorTest, P_2_ATokenThatTheModelDoesNotHaveIsRefused) {
  start(std::make_unique<SmallVocabulary>(Script{}), Script{}, {});
  const JsonValue messages = JsonArray{JsonObject{{"role", "user"}, {"content", "hi"}}};
  for (const Prompt& prompt :
       {Prompt(TextPrompt{.text = "x<|im_start|>"}), Prompt(ChatPrompt{.messages = messages})}) {
    const auto refused = executor_->submit(request({.prompts = {prompt}}));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::kInvalidParameter);
    EXPECT_EQ(refused.error().field, "prompt");
    EXPECT_THAT(refused.error().message, HasSubstr("256"));
  }
  EXPECT_FALSE(ask(fields("x")).error);
  expect_quiet();
}

// What a retry cannot cure is not an overload.
TEST_F(ExecutorTest, ARequestThatTheQueueCouldNeverHoldIsToldSo) {
  ExecutorOptions options;
  options.scheduler.max_sequences = 1;
  options.job_queue_size = 1;
  start({.rules = {rule("*", "ok")}}, options);
  GenerationFields of = fields("a");
  of.num_choices = 3;
  const auto choices = executor_->submit(request(of));
  ASSERT_FALSE(choices);
  EXPECT_EQ(choices.error().kind, ErrorKind::kInvalidParameter);
  EXPECT_EQ(choices.error().field, "n");
  EXPECT_THAT(choices.error().message, HasSubstr("2"));
  of.num_choices = 1;
  of.prompts.resize(3, of.prompts.front());
  EXPECT_EQ(executor_->submit(request(of)).error().field, "prompt");
  of.prompts.resize(2);
  EXPECT_THAT(ask(of).texts, testing::ElementsAre("ok", "ok"));
}

// Remembers the seed that each sequence was sampled with.
class SeedRecorder : public ScriptRunner {
 public:
  SeedRecorder(const Script& script, std::vector<uint64_t>& seeds)
      : ScriptRunner(script), seeds_(seeds) {}
  StepResult& run(const StepInput& input) override {
    for (const SamplingRow& row : input.sampling) seeds_.push_back(row.params.seed);
    return ScriptRunner::run(input);
  }

 private:
  std::vector<uint64_t>& seeds_;
};

TEST_F(ExecutorTest, PromptsOfOneRequestDrawTheirOwnNumbersUnlessASeedIsGiven) {
  const Script script{.rules = {rule("*", "")}};  // one token each
  for (const std::optional<uint64_t> given : {std::optional<uint64_t>(), std::optional(7ul)}) {
    std::vector<uint64_t> seeds;
    start(std::make_unique<SeedRecorder>(script, seeds), script, {});
    GenerationFields of = fields("a");
    of.prompts.resize(3, of.prompts.front());
    of.seed = given;
    ResponseStream stream = submit(of);
    read(stream);
    executor_.reset();  // the loop writes no more
    ASSERT_EQ(seeds.size(), 3u);
    EXPECT_EQ(seeds[0], stream.seed()) << "what is reported repeats the first";
    const bool equal = seeds[0] == seeds[1] || seeds[1] == seeds[2] || seeds[0] == seeds[2];
    EXPECT_EQ(equal, given.has_value());
  }
}

TEST_F(ExecutorTest, OfTwoBeginTokensInTextOneIsDroppedAndIdsStayAsTheyAre) {
  TextParts parts = text();
  parts.begin_id = 256;  // <|im_start|>
  ExecutorOptions options;
  options.max_model_len = 100;
  options.scheduler.groups = {{.num_blocks = 16}};
  executor_ = std::make_unique<Executor>(std::make_unique<ScriptRunner>(Script{.num_blocks = 16}),
                                         parts, options, metrics_, "script");
  const auto tokens = [this](const Prompt& prompt) {
    return submit({.prompts = {prompt}}).prompt_tokens()[0];
  };
  EXPECT_EQ(tokens(TextPrompt{.text = "<|im_start|><|im_start|>x"}), 2);
  EXPECT_EQ(tokens(TextPrompt{.text = "<|im_start|>x"}), 2);
  EXPECT_EQ(tokens(TokenPrompt{.ids = {256, 256, 'x'}}), 3);
}

TEST_F(ExecutorTest, AResumeBoundAboveThePauseBoundDoesNotStrandAReader) {
  ExecutorOptions options;
  options.stream_pause_bytes = 640;
  options.stream_resume_bytes = 64'000;
  start({.rules = {rule("*", std::string(200, 'z'))}}, options);
  ResponseStream slow = submit(fields("slow"));
  ASSERT_TRUE(comes_true([&] {
    const ExecutorStats stats = executor_->stats();
    return stats.running == 0 && stats.held_blocks > 0;
  }));
  EXPECT_EQ(read(slow).texts[0], std::string(200, 'z'));
}

// The texts of all choices of all streams. In turns: who waits for one stream alone leaves the
// others paused, with blocks that it may need.
void read_in_turns(std::vector<ResponseStream>& streams, std::vector<std::string>& texts) {
  std::vector<size_t> begins;
  for (const ResponseStream& stream : streams) {
    begins.push_back(texts.size());
    texts.resize(texts.size() + static_cast<size_t>(stream.num_choices()));
  }
  std::vector<bool> ended(streams.size());
  while (std::find(ended.begin(), ended.end(), false) != ended.end()) {
    for (size_t i = 0; i < streams.size(); ++i) {
      const ResponseStream::Poll poll = streams[i].poll();
      EXPECT_FALSE(poll.error) << poll.error->message;
      for (const TextEvent& event : poll.events) {
        texts[begins[i] + static_cast<size_t>(event.choice)] += event.text;
      }
      if (poll.ended) ended[i] = true;
    }
    std::this_thread::yield();
  }
}

// The script says the same whatever the scheduler does, and checks each step against what earlier
// ones wrote: chunks, shared prefixes, preemption and pauses must all lead to the same text.
TEST_F(ExecutorTest, TextDoesNotDependOnTheSchedulersSettings) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 25; ++round) {
    ExecutorOptions options;
    options.scheduler.max_sequences = 1 + static_cast<int32_t>(random() % 12);
    options.scheduler.max_step_tokens = 16 + static_cast<int32_t>(random() % 200);
    options.scheduler.min_chunk_tokens = 1 + static_cast<int32_t>(random() % 64);
    options.scheduler.max_preemptions = static_cast<int32_t>(random() % 4);
    options.scheduler.prefix_cache = random() % 2 == 0;
    if (random() % 3 == 0) options.stream_pause_bytes = options.stream_resume_bytes = 1000;
    const std::string long_reply(90, 'l');
    start({.max_model_len = 384,
           .num_blocks = 12 + static_cast<int64_t>(random() % 30),
           .rules = {rule("long", long_reply), rule("*", "short")}},
          options);
    std::vector<ResponseStream> streams;
    std::vector<std::string> texts, expected;
    for (int i = 0; i < 20; ++i) {
      const bool is_long = random() % 2 == 0;
      GenerationFields of = fields(std::string(random() % 250, 'p') + (is_long ? "long" : "brief"));
      of.num_choices = 1 + static_cast<int64_t>(random() % 3);
      streams.push_back(submit(of));
      for (int64_t n = of.num_choices; n > 0; --n) {
        expected.push_back(is_long ? long_reply : "short");
      }
    }
    read_in_turns(streams, texts);
    EXPECT_EQ(texts, expected);
    expect_quiet();
  }
}

}  // namespace
}  // namespace tidemill

// Every request has one ending, whatever happens to it, and is counted once. The model is a script
// whose steps the test lets through one by one, so that it knows where a request stands.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <numeric>
#include <random>

#include "executor/executor_fixture.h"

namespace tidemill {
namespace {

constexpr int64_t kAllSteps = 1 << 20;

// Not std::counting_semaphore: the one of GCC 12 can miss a release and sleep on.
class Gate {
 public:
  void let_through(int64_t count) {
    {
      const std::lock_guard lock(mutex_);
      open_for_ += count;
    }
    opened_.notify_one();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    if (open_for_ == 0) {
      waits_ = true;
      closed_.notify_all();
    }
    opened_.wait(lock, [this] { return open_for_ > 0; });
    waits_ = false;
    --open_for_;
  }
  // Until the loop stands before the closed gate.
  void wait_for_arrival() {
    std::unique_lock lock(mutex_);
    closed_.wait(lock, [this] { return waits_ && open_for_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable opened_;
  std::condition_variable closed_;
  int64_t open_for_ = 0;
  bool waits_ = false;  // somebody is in pass(), and open_for_ was 0
};

class GatedRunner : public StepRunner {
 public:
  GatedRunner(const Script& script, Gate& gate) : script_(script), gate_(gate) {}
  StepResult& run(const StepInput& input) override {
    gate_.pass();
    return script_.run(input);
  }
  int32_t vocab_size() const override { return script_.vocab_size(); }

 private:
  ScriptRunner script_;
  Gate& gate_;
};

class Endings : public ExecutorTest {
 protected:
  ~Endings() override {
    gate_.let_through(kAllSteps);  // a loop that waits at the gate could not be joined
    executor_.reset();
  }
  void start_gated(const Script& script, const ExecutorOptions& options = {}) {
    start(std::make_unique<GatedRunner>(script, gate_), script, options);
  }
  void let_steps_through(int64_t count) { gate_.let_through(count); }
  // Of all sequences: how they ended.
  std::vector<int64_t> ends() const {
    std::vector<int64_t> ends;
    for (const std::string reason : {"stop", "length", "abort", "error"}) {
      ends.push_back(count("vllm:request_success_total", ",finished_reason=\"" + reason + "\""));
    }
    return ends;
  }
  // Those whose reader left, by stage.
  std::vector<int64_t> cancelled() const {
    std::vector<int64_t> stages;
    for (const std::string stage : {"queued", "prefill", "decode"}) {
      stages.push_back(count("tidemill:requests_cancelled_total", ",stage=\"" + stage + "\""));
    }
    return stages;
  }
  static Script endless() { return {.rules = {rule("*", std::string(2000, 'x'))}}; }

  Gate gate_;
};

using testing::ElementsAre;

TEST_F(Endings, Q_3_WhoLeavesTheQueueIsNeverPrefilled) {
  ExecutorOptions options;
  options.scheduler.max_sequences = 1;
  start_gated(endless(), options);
  ResponseStream first = submit(fields("first"));
  let_steps_through(1);
  EXPECT_FALSE(first.wait().events.empty());
  ResponseStream queued = submit(fields("queued"));
  queued.cancel();
  first.cancel();
  EXPECT_TRUE(queued.poll().ended);
  EXPECT_FALSE(queued.poll().error);
  let_steps_through(kAllSteps);
  expect_quiet();
  EXPECT_THAT(cancelled(), ElementsAre(1, 0, 1));
  EXPECT_THAT(ends(), ElementsAre(0, 0, 2, 0));
  EXPECT_EQ(count("vllm:time_to_first_token_seconds_count"), 1);
}

TEST_F(Endings, WhoLeavesInAPrefillIsCountedThere) {
  ExecutorOptions options;
  options.scheduler.max_step_tokens = 32;
  start_gated(endless(), options);
  ResponseStream stream = submit(fields(std::string(200, 'p')));
  let_steps_through(1);
  while (count("vllm:iteration_tokens_total_count") == 0) std::this_thread::yield();
  stream.cancel();
  let_steps_through(2);
  expect_quiet();
  EXPECT_THAT(cancelled(), ElementsAre(0, 1, 0));
  EXPECT_EQ(count("vllm:time_to_first_token_seconds_count"), 0);
}

TEST_F(Endings, AStreamThatIsDestroyedIsCancelled) {
  start_gated(endless());
  {
    const ResponseStream stream = submit(fields("gone"));
    let_steps_through(1);
  }
  let_steps_through(kAllSteps);
  expect_quiet();
  EXPECT_THAT(ends(), ElementsAre(0, 0, 1, 0));
}

TEST_F(Endings, NoTokensAskedIsAnEndThatCounts) {
  start(endless());
  GenerationFields of = fields("x");
  of.max_new_tokens = 0;
  of.num_choices = 2;
  EXPECT_EQ(ask(of).finishes[1].completion_tokens, 0);
  EXPECT_TRUE(executor_->idle());
  EXPECT_THAT(ends(), ElementsAre(0, 2, 0, 0));
  EXPECT_EQ(count("vllm:e2e_request_latency_seconds_sum"), 0);
  EXPECT_EQ(count("vllm:time_to_first_token_seconds_count"), 0);
}

TEST_F(Endings, EachChoiceIsCountedAndItsPromptOnce) {
  start({.rules = {rule("*", "ab")}});
  GenerationFields of = fields("four");
  of.num_choices = 3;
  ask(of);
  expect_quiet();
  EXPECT_THAT(ends(), ElementsAre(3, 0, 0, 0));
  EXPECT_EQ(count("vllm:prompt_tokens_total"), 4);
  EXPECT_EQ(count("vllm:generation_tokens_total"), 9);
  EXPECT_EQ(count("vllm:time_to_first_token_seconds_count"), 3);
  EXPECT_EQ(count("vllm:inter_token_latency_seconds_count"), 6);
  EXPECT_EQ(count("vllm:request_params_n_count"), 1);
}

TEST_F(Endings, ARequestOfTwoPromptsIsOneRequest) {
  start({.rules = {rule("*", "ab")}});
  GenerationFields of = fields("four");
  of.prompts.push_back(of.prompts.front());
  ask(of);
  expect_quiet();
  EXPECT_EQ(count("vllm:prompt_tokens_total"), 8);
  EXPECT_EQ(count("vllm:request_params_n_count"), 1);
  EXPECT_EQ(executor_->stats().ended, 2);
}

TEST_F(Endings, AStopStringEndsAsAskedThoughTheLoopWentOn) {
  start_gated({.rules = {rule("*", "one END two three")}});
  GenerationFields of = fields("x");
  of.stop_strings = {"END"};
  ResponseStream stream = submit(of);
  let_steps_through(12);  // five tokens beyond the stop string
  while (count("vllm:generation_tokens_total") < 12) std::this_thread::yield();
  const Answer answer = read(stream);
  EXPECT_EQ(answer.texts[0], "one ");
  EXPECT_EQ(answer.finishes[0].completion_tokens, 7);
  let_steps_through(kAllSteps);
  expect_quiet();
  EXPECT_THAT(ends(), ElementsAre(1, 0, 0, 0));
}

TEST_F(Endings, WhatFailsBeyondAStopStringIsNobodysError) {
  ScriptRule stops = rule("stops", "END abcdef");
  stops.fail_at = 6;
  start_gated({.rules = {stops, rule("*", "0123456789")}});
  GenerationFields of = fields("stops");
  of.prompts.push_back(TextPrompt{.text = "goes on"});
  of.stop_strings = {"END"};
  ResponseStream stream = submit(of);
  let_steps_through(9);  // the failed row lies unread behind the stop string
  while (count("vllm:generation_tokens_total") < 15) std::this_thread::yield();
  let_steps_through(kAllSteps);
  const Answer answer = read(stream);
  EXPECT_FALSE(answer.error) << answer.error->message;
  EXPECT_THAT(answer.texts, ElementsAre("", "0123456789"));
  EXPECT_EQ(answer.finishes[0].reason, FinishReason::kStopString);
  expect_quiet();
}

TEST_F(Endings, OneFailedChoiceEndsItsRequestWhole) {
  ScriptRule bad = rule("bad", "abc");
  bad.fail_at = 1;
  start({.step_ms = 1, .rules = {bad, rule("*", std::string(1000, 'x'))}});
  GenerationFields of = fields("bad");
  of.prompts.push_back(TextPrompt{.text = "good"});
  EXPECT_EQ(ask(of).error->kind, ErrorKind::kNumericalError);
  expect_quiet();
  EXPECT_THAT(ends(), ElementsAre(0, 0, 1, 1));
}

TEST_F(Endings, AbortingAllAnswersAllAndTheNextRequestRuns) {
  start({.step_ms = 1, .rules = {rule("long", std::string(3000, 'x')), rule("*", "ok")}});
  std::vector<ResponseStream> streams;
  for (int i = 0; i < 5; ++i) streams.push_back(submit(fields("long")));
  executor_->abort_all({.kind = ErrorKind::kDraining, .field = "", .message = "time is up."});
  for (ResponseStream& stream : streams) EXPECT_EQ(read(stream).error->message, "time is up.");
  expect_quiet();
  EXPECT_EQ(ask(fields("short")).texts[0], "ok");
  expect_quiet();
  EXPECT_THAT(ends(), ElementsAre(1, 0, 0, 5));
}

// As a step that hangs: nothing of the loop can answer.
TEST_F(Endings, S_2_WhereAStepDoesNotComeBackAnotherThreadAnswers) {
  ExecutorOptions options;
  options.scheduler.max_sequences = 2;
  start_gated(endless(), options);
  GenerationFields two = fields("b");
  two.num_choices = 2;
  std::vector<ResponseStream> streams;
  streams.push_back(submit(fields("a")));
  let_steps_through(3);
  for (int64_t tokens = 0; tokens < 3; tokens = streams[0].completion_tokens()) streams[0].wait();
  gate_.wait_for_arrival();  // before that, the loop itself would answer and be idle
  streams.push_back(submit(std::move(two)));
  streams.push_back(submit(fields("c")));
  const Error error{.kind = ErrorKind::kDraining, .field = "", .message = "time is up."};
  executor_->abort_all(error);
  EXPECT_FALSE(streams[0].poll().ended);
  executor_->answer_all(error);
  for (ResponseStream& stream : streams) EXPECT_EQ(read(stream).error->message, "time is up.");
  EXPECT_FALSE(executor_->stop(std::chrono::milliseconds(50)));
  let_steps_through(kAllSteps);
  EXPECT_TRUE(executor_->stop(std::chrono::seconds(60)));
  EXPECT_TRUE(executor_->idle());
  const std::vector<int64_t> all = ends();
  EXPECT_EQ(std::accumulate(all.begin(), all.end(), int64_t{0}), 4) << "each counted once";
}

TEST_F(Endings, AFullQueueIsFoundBeforeThePromptIsLookedAt) {
  ExecutorOptions options;
  options.scheduler.max_sequences = 1;
  options.job_queue_size = 0;
  Script script = endless();
  script.max_model_len = 64;
  start_gated(script, options);
  ResponseStream running = submit(fields("a"));
  GenerationFields too_long = fields(std::string(65, 'x'));
  EXPECT_EQ(executor_->submit(request(too_long)).error().kind, ErrorKind::kQueueFull);
  executor_->drain();
  EXPECT_EQ(executor_->submit(request(too_long)).error().kind, ErrorKind::kDraining);
}

TEST_F(Endings, I15_RandomTrafficOfEveryKindAddsUp) {
  std::mt19937_64 random(5);
  ScriptRule fails = rule("fails", "abcdefgh");
  fails.fail_at = 4;
  ExecutorOptions options;
  options.job_queue_size = 40;
  options.scheduler.max_sequences = 8;
  start({.max_model_len = 512, .num_blocks = 40, .rules = {fails, rule("*", "some END text")}},
        options);
  int64_t submitted = 0;
  for (int round = 0; round < 1500; ++round) {
    GenerationFields of =
        fields((random() % 8 == 0 ? "fails" : "") + std::string(1 + random() % 150, 'p'));
    of.num_choices = 1 + static_cast<int64_t>(random() % 3);
    of.max_new_tokens = static_cast<int64_t>(random() % 20);
    if (random() % 4 == 0) of.stop_strings = {"END"};
    auto stream = executor_->submit(request(of));
    if (!stream) {
      EXPECT_EQ(stream.error().kind, ErrorKind::kQueueFull);
      continue;
    }
    submitted += of.num_choices;
    if (random() % 3 == 0) stream->cancel();
    if (random() % 3 == 0) read(*stream);
  }
  expect_quiet();
  int64_t ended = 0;
  for (const int64_t count : ends()) ended += count;
  EXPECT_EQ(ended, submitted);
  EXPECT_EQ(count("vllm:num_requests_running"), 0);
  EXPECT_EQ(count("vllm:num_requests_waiting"), 0);
}

}  // namespace
}  // namespace tidemill

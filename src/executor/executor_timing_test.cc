// What must happen within two steps (robustness 3.3), counted: the loop is driven by the test, one
// turn after the other, by a clock that stands still in between.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "executor/executor_fixture.h"
#include "executor/simulation/virtual_clock.h"

namespace tidemill {
namespace {

constexpr std::chrono::milliseconds kStep{1};

// Steps that take a millisecond each, and which sequences took part in each of them.
class CountedRunner : public StepRunner {
 public:
  CountedRunner(const Script& script, VirtualClock& clock) : script_(script), clock_(clock) {}
  StepResult& run(const StepInput& input) override {
    for (const PlanRow& row : input.plan.rows) ++num_steps_of[row.sequence];
    clock_.advance(kStep);
    return script_.run(input);
  }
  int32_t vocab_size() const override { return script_.vocab_size(); }

  std::map<SequenceId, int> num_steps_of;

 private:
  ScriptRunner script_;
  VirtualClock& clock_;
};

class Timing : public ExecutorTest {
 protected:
  void begin(ExecutorOptions options = {}) {
    const Script script{
        .max_model_len = 512, .num_blocks = 64, .rules = {rule("*", std::string(400, 'x'))}};
    options.max_model_len = script.max_model_len;
    options.scheduler.groups = {{.num_blocks = script.num_blocks}};
    options.scheduler.prefix_cache = false;
    auto runner = std::make_unique<CountedRunner>(script, clock_);
    runner_ = runner.get();
    executor_ = std::make_unique<Executor>(
        std::move(runner), text(), options, metrics_, "script",
        LoopDriver{.now = [this] { return clock_.now; }, .own_thread = false});
  }
  // The n-th call's sequence has the id n: each has one.
  ResponseStream submit_now(std::string prompt) {
    auto stream = executor_->submit(request(fields(std::move(prompt))), clock_.now);
    EXPECT_TRUE(stream) << stream.error().message;
    return std::move(*stream);
  }
  void turns(int count) {
    for (int i = 0; i < count; ++i) executor_->turn();
  }
  int steps_of(SequenceId id) const {
    const auto found = runner_->num_steps_of.find(id);
    return found == runner_->num_steps_of.end() ? 0 : found->second;
  }
  void expect_nothing_held() {
    clock_.advance(std::chrono::seconds(1));  // gauges are published every now and then
    executor_->turn();
    EXPECT_TRUE(executor_->idle());
    EXPECT_EQ(executor_->stats().held_blocks, 0);
    executor_->check_invariants();
  }

  VirtualClock clock_;
  CountedRunner* runner_ = nullptr;
};

TEST_F(Timing, Q_2_BehindItsDeadlineARequestHasNoFurtherStepHoweverShortStepsAre) {
  ExecutorOptions options;
  options.request_timeout_ms = 10;
  begin(options);
  ResponseStream stream = submit_now("a");
  turns(30);
  // The step that is running when the time is over is the last.
  EXPECT_EQ(steps_of(1), 11);
  EXPECT_EQ(stream.poll().error->kind, ErrorKind::kDeadline);
  expect_nothing_held();
}

TEST_F(Timing, Q_2_WhoWaitsLongerThanTheQueuesDeadlineNeverBegins) {
  ExecutorOptions options;
  options.scheduler.max_sequences = 1;
  options.queue_timeout_ms = 10;
  begin(options);
  ResponseStream running = submit_now("a");
  turns(1);
  ResponseStream waiting = submit_now("b");
  turns(10);
  EXPECT_FALSE(waiting.poll().ended);
  turns(2);
  EXPECT_EQ(waiting.poll().error->kind, ErrorKind::kDeadline);
  running.cancel();
  turns(3);
  EXPECT_EQ(steps_of(2), 0);
  expect_nothing_held();
}

TEST_F(Timing, Q_2_EachOfManyDeadlinesIsKeptThoughTheNearestIsGone) {
  ExecutorOptions options;
  options.request_timeout_ms = 20;
  begin(options);
  std::vector<ResponseStream> streams;
  for (int i = 0; i < 4; ++i) {
    streams.push_back(submit_now("a"));
    turns(3);
  }
  streams.front().cancel();  // the nearest
  turns(40);
  EXPECT_LE(steps_of(1), 12);
  for (SequenceId id = 2; id <= 4; ++id) EXPECT_EQ(steps_of(id), 21) << "sequence " << id;
  expect_nothing_held();
}

TEST_F(Timing, Q_3_WhoLeavesTheQueueHasNoStepAtAll) {
  begin();
  ResponseStream early = submit_now("a");
  early.cancel();  // in the mailbox behind its own beginning
  turns(3);
  EXPECT_EQ(steps_of(1), 0);
  expect_nothing_held();
}

TEST_F(Timing, Q_4_WhoLeavesWhileItRunsHasNoFurtherStep) {
  begin();
  ResponseStream prefilling = submit_now(std::string(500, 'p'));
  ResponseStream running = submit_now("a");
  turns(5);
  const int steps = steps_of(2);
  EXPECT_GE(steps, 4);
  running.cancel();
  { const ResponseStream gone = std::move(prefilling); }
  turns(5);
  EXPECT_EQ(steps_of(2), steps);
  EXPECT_LE(steps_of(1), 5);
  EXPECT_EQ(count("vllm:request_success_total", ",finished_reason=\"abort\""), 2);
  expect_nothing_held();
}

TEST_F(Timing, Q_6_WhatLiesUnreadIsBoundedAndComesWhenItIsRead) {
  ExecutorOptions options;
  options.stream_pause_bytes = 640;  // ten tokens
  options.stream_resume_bytes = 320;
  begin(options);
  ResponseStream slow = submit_now("slow");
  ResponseStream quick = submit_now("quick");
  std::string text;
  for (int i = 0; i < 100; ++i) {
    turns(1);
    for (const TextEvent& event : quick.poll().events) text += event.text;
  }
  EXPECT_EQ(text, std::string(100, 'x')) << "a token a step, whoever is slow";
  EXPECT_EQ(steps_of(1), 11) << "one more than may be unread";
  EXPECT_EQ(slow.poll().events.at(0).tokens.size(), 11u);
  turns(5);
  EXPECT_EQ(slow.poll().events.at(0).tokens.size(), 5u);
  slow.cancel();
  quick.cancel();
  expect_nothing_held();
}

TEST_F(Timing, Q_6_ASequencePausesBehindTheByteThatIsTooMuch) {
  for (const int more : {-1, 0, 1}) {
    ExecutorOptions options;
    options.stream_pause_bytes = 640 + more;  // 64 for a token
    options.stream_resume_bytes = 0;
    begin(options);
    ResponseStream slow = submit_now("slow");
    turns(30);
    EXPECT_EQ(steps_of(1), more < 0 ? 10 : 11) << "one more than may be unread";
    slow.cancel();
    expect_nothing_held();
  }
}

TEST_F(Timing, Q_9_AFreedPlaceIsFilledInTheSameTurnInOrderOfArrival) {
  ExecutorOptions options;
  options.scheduler.max_sequences = 2;
  begin(options);
  std::vector<ResponseStream> streams;
  for (int i = 0; i < 5; ++i) streams.push_back(submit_now("a"));
  turns(3);
  EXPECT_EQ(runner_->num_steps_of, (std::map<SequenceId, int>{{1, 3}, {2, 3}}));
  streams[1].cancel();
  turns(1);
  EXPECT_EQ(runner_->num_steps_of, (std::map<SequenceId, int>{{1, 4}, {2, 3}, {3, 1}}));
  streams[0].cancel();
  streams[2].cancel();
  turns(1);
  EXPECT_EQ(runner_->num_steps_of,
            (std::map<SequenceId, int>{{1, 4}, {2, 3}, {3, 1}, {4, 1}, {5, 1}}));
  for (ResponseStream& stream : streams) stream.cancel();
  expect_nothing_held();
}

}  // namespace
}  // namespace tidemill

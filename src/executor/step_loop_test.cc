#include "executor/step_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <new>
#include <thread>

#include "executor/script_runner.h"

namespace tidemill {
namespace {

// That has so many pieces to do ahead, and remembers what it was told.
class PreparingRunner : public ScriptRunner {
 public:
  using ScriptRunner::ScriptRunner;
  bool prepare(int64_t used_blocks, Ahead ahead) override {
    if (ahead == Ahead::kSomeSteps) {
      told_before_steps.push_back(used_blocks);
      return false;
    }
    told.push_back(used_blocks);
    return pieces-- > 0;
  }
  int pieces = 0;
  std::vector<int64_t> told, told_before_steps;
};

// The loop and what Executor::submit() does, without its checks.
class StepLoopTest : public testing::Test {
 protected:
  explicit StepLoopTest(ScriptRule rule = {.reply = {1, 2, 3}}, int64_t max_step_ms = 0)
      : runner_({.num_blocks = 8, .rules = {std::move(rule)}}),
        options_{.scheduler = {.groups = {{.num_blocks = 8}}},
                 .max_model_len = 64,
                 .max_step_ms = max_step_ms} {}
  ~StepLoopTest() override {
    loop_.stop();
    if (thread_.joinable()) thread_.join();
  }
  void run() {
    thread_ = std::thread([this] { loop_.run(); });
  }
  std::shared_ptr<StreamQueue> send(SequenceId id, std::vector<TokenId> prompt = {7, 8, 9}) {
    auto stream = std::make_shared<StreamQueue>();
    streams_.put(id, stream, std::chrono::steady_clock::now());
    gauges_.in_system.fetch_add(1);
    mailbox_.push({{.kind = MailKind::kAdd,
                    .sequence = id,
                    .prompt = std::move(prompt),
                    .max_new_tokens = 3}});
    return stream;
  }
  static std::vector<TokenRecord> read_all(StreamQueue& stream) {
    std::vector<TokenRecord> all;
    while (all.empty() || (!all.back().end && !all.back().error)) {
      for (TokenRecord& record : stream.wait().records) all.push_back(std::move(record));
    }
    return all;
  }

  MetricsRegistry registry_;
  PreparingRunner runner_;
  const ExecutorOptions options_;
  ExecutorMetrics metrics_{registry_, "m", 64, {.num_blocks = 8, .prefix_cache = true}};
  Mailbox mailbox_;
  StreamTable streams_;
  LoopGauges gauges_;
  StepLoop loop_{runner_, options_, metrics_, mailbox_, streams_, gauges_};
  std::thread thread_;
};

class FailingStepLoop : public StepLoopTest {
 protected:
  FailingStepLoop() : StepLoopTest({.reply = {1, 2, 3}, .throw_at = 1}) {}
};

TEST_F(StepLoopTest, I14_TokensComeInOrderAndTheLastCarriesTheEnd) {
  run();
  const std::vector<TokenRecord> records = read_all(*send(1));
  ASSERT_EQ(records.size(), 3u);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(records[static_cast<size_t>(i)].token->token, i + 1);
  EXPECT_EQ(records[2].end->reason, EndReason::kLength);
}

TEST_F(StepLoopTest, WhatCanBeDoneAheadIsDoneWhileNothingRuns) {
  constexpr std::chrono::milliseconds kAtOnce{0};
  runner_.pieces = 1;
  EXPECT_EQ(loop_.turn(kAtOnce), kAtOnce);
  EXPECT_FALSE(gauges_.prepared.load());
  EXPECT_GT(loop_.turn(kAtOnce), kAtOnce);
  EXPECT_TRUE(gauges_.prepared.load());
  EXPECT_EQ(runner_.told, (std::vector<int64_t>{0, 0}));

  const auto stream = send(1);
  runner_.pieces = 1;
  runner_.told.clear();
  loop_.turn(kAtOnce);  // its prompt
  EXPECT_FALSE(gauges_.prepared.load());
  loop_.turn(kAtOnce);
  EXPECT_EQ(runner_.told, std::vector<int64_t>{}) << "while a sequence runs";
  EXPECT_EQ(runner_.told_before_steps, (std::vector<int64_t>{1, 1})) << "a piece for each step";
  while (loop_.turn(kAtOnce) == kAtOnce) continue;
  EXPECT_TRUE(gauges_.prepared.load());
  EXPECT_EQ(runner_.told, (std::vector<int64_t>{1, 1}));
  EXPECT_EQ(read_all(*stream).size(), 3u);
}

TEST_F(StepLoopTest, WhatIsUnreadWhenItStopsHasItsError) {
  const auto stream = send(1);
  loop_.stop();
  run();
  EXPECT_EQ(read_all(*stream).back().error->kind, ErrorKind::kDraining);
  while (gauges_.in_system.load() > 0) std::this_thread::yield();
}

// Its last record is the only one: nothing that comes later would say it again.
TEST_F(StepLoopTest, AReaderThatCouldNotBeCalledIsCalledLater) {
  const auto stream = send(1);
  std::atomic<int> calls{0};
  std::atomic<bool> ended{false};
  stream->on_ready([&] {
    if (calls.fetch_add(1) % 3 != 2) throw std::bad_alloc();
    for (const TokenRecord& record : stream->take().records) {
      if (record.end) ended = true;
    }
  });
  run();
  while (!ended) std::this_thread::yield();
  EXPECT_GE(calls.load(), 3);
  stream->on_ready(nullptr);
}

TEST_F(StepLoopTest, MailForSequencesThatHaveEndedIsIgnored) {
  run();
  read_all(*send(1));
  for (const MailKind kind : {MailKind::kStop, MailKind::kCancel, MailKind::kResume}) {
    mailbox_.push({{.kind = kind, .sequence = 1}, {.kind = kind, .sequence = 99}});
  }
  EXPECT_EQ(read_all(*send(2)).size(), 3u);
}

int64_t limited_steps(const std::string& page) {
  const std::string name = "\ntidemill:limited_steps_total{";
  int64_t sum = 0;
  for (size_t at = page.find(name); at != std::string::npos; at = page.find(name, at + 1)) {
    sum += std::stoll(page.substr(page.find("} ", at) + 2));
  }
  return sum;
}

class LimitedStepLoop : public StepLoopTest {
 protected:
  LimitedStepLoop() : StepLoopTest({.reply = {1, 2, 3}}, /*max_step_ms=*/1) {}
};

// Of a step whose time is limited a prompt takes little before it is known what it costs.
TEST_F(StepLoopTest, WithoutALimitAPromptIsComputedInOneStep) {
  run();
  read_all(*send(1, std::vector<TokenId>(200, 7)));
  EXPECT_THAT(registry_.text(), testing::ContainsRegex("iteration_tokens_total_count[^\n]* 3\n"));
  EXPECT_EQ(limited_steps(registry_.text()), 0);
}
TEST_F(LimitedStepLoop, APromptIsCutToTheTimeOfAStep) {
  run();
  read_all(*send(1, std::vector<TokenId>(200, 7)));
  const std::string page = registry_.text();
  EXPECT_THAT(page, testing::ContainsRegex("iteration_tokens_total_sum[^\n]* 202\n"));
  EXPECT_THAT(page, testing::Not(testing::ContainsRegex("iteration_tokens_total_count[^\n]* 3\n")));
  EXPECT_GT(limited_steps(page), 3);
}

TEST_F(StepLoopTest, StepsThatTookLongAreToldFromThoseThatWereDisturbed) {
  metrics_.limited_step({.over = true});
  for (int i = 0; i < 2; ++i) metrics_.limited_step({.disturbed = true});
  const std::string page = registry_.text();
  const std::string name = "\ntidemill:limited_steps_total{model_name=\"m\",engine=\"0\",";
  EXPECT_THAT(page, testing::HasSubstr(name + "over=\"true\",disturbed=\"false\"} 1\n"));
  EXPECT_THAT(page, testing::HasSubstr(name + "over=\"false\",disturbed=\"true\"} 2\n"));
  EXPECT_THAT(page, testing::HasSubstr(name + "over=\"false\",disturbed=\"false\"} 0\n"));
  EXPECT_THAT(page, testing::HasSubstr(name + "over=\"true\",disturbed=\"true\"} 0\n"));
}

TEST_F(FailingStepLoop, WhoWasLetInJustBeforeHasTheErrorToo) {
  run();
  EXPECT_EQ(read_all(*send(1)).back().error->kind, ErrorKind::kEngineError);
  while (!gauges_.failed.load()) std::this_thread::yield();
  const auto late = send(2);
  const auto cancelled = send(3);
  mailbox_.push({{.kind = MailKind::kCancel, .sequence = 3}});
  EXPECT_EQ(read_all(*late).back().error->kind, ErrorKind::kEngineError);
  EXPECT_EQ(read_all(*cancelled).back().error->kind, ErrorKind::kEngineError);
  while (gauges_.in_system.load() > 0) std::this_thread::yield();
  EXPECT_THAT(registry_.text(), testing::HasSubstr("finished_reason=\"error\"} 3\n"));
}

}  // namespace
}  // namespace tidemill

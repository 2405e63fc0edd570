// Memory that is not there between a request's body and its answer: whichever allocation fails, the
// request has one ending, is counted once, and holds nothing afterwards.
#include <gmock/gmock.h>

#include <future>

#include "executor/failing_new.h"
#include "server/generate_handler.h"
#include "server/test_server.h"

namespace tidemill {
namespace {

constexpr int64_t kAllThatCome = 1'000'000'000;

// The loop goes on when the test lets it, so its allocations are those of the test's thread.
class AllocationFailureTest : public ServerTest {
 protected:
  void open(const std::vector<ScriptRule>& rules) {
    if (!executor_) registry_.add("m", {"m"});
    load(rules, {}, {.own_thread = false});
  }

  std::shared_ptr<GenerateTask> started(std::string body) {
    exchange_ = std::make_shared<Exchange>();
    Route route{
        .kind = RouteKind::kCompletion, .dialect = Dialect::kOpenAi, .pattern = "/v1/completions"};
    auto task = std::make_shared<GenerateTask>(HandlerContext{registry_, pool_, server_metrics_},
                                               std::move(route), HttpHead{.method = "POST"},
                                               std::move(body), "id", Caller{}, exchange_);
    task->start();
    settle();
    EXPECT_FALSE(executor_->idle());
    ++num_requests_;
    return task;
  }

  // When everything that was posted so far has run.
  void settle() {
    std::promise<void> settled;
    pool_.post([&settled] { settled.set_value(); });
    settled.get_future().wait();
  }

  bool comes_to_its_end(GenerateTask& task) {
    for (int i = 0; i < 100; ++i) {
      const Exchange::Output output = exchange_->take();
      if (output.whole || output.ended) return true;
      task.resume();
      executor_->turn();
      settle();
    }
    return false;
  }

  void expect_quiet() {
    for (int i = 0; i < 20 && !executor_->idle(); ++i) executor_->turn();
    EXPECT_TRUE(executor_->idle());
    EXPECT_EQ(metric("tidemill:requests_rejected_total") + metric("vllm:request_success_total"),
              num_requests_);
  }

  int num_requests_ = 0;
  ServerMetrics server_metrics_{metrics_};
  std::shared_ptr<Exchange> exchange_;
  TextPool pool_{1};
};

// What the loop has for a reader and cannot call it for, it calls it for a turn later.
TEST_F(AllocationFailureTest, N_3_AStreamThatNoMemoryWokeGoesOnWhenThereIsSome) {
  const std::vector<ScriptRule> rules = {scripted("*", "abcd")};
  open(rules);
  bool came = true;
  for (int64_t number = 0; came; ++number) {
    if (executor_->stats().failed) open(rules);  // a step itself found no memory
    const auto task = started(R"({"prompt":"x","stream":true,"max_tokens":8})");
    {
      const FailingAllocation failing(number);
      executor_->turn();
      came = FailingAllocation::came();
    }
    ASSERT_TRUE(comes_to_its_end(*task)) << "allocation " << number;
    expect_quiet();
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(num_requests_, 20);
}

// The connection lets go of a request as it goes itself, where nothing may be thrown.
TEST_F(AllocationFailureTest, N_3_WhoLeavesWhenThereIsNoMemoryIsLetGo) {
  open({scripted("*", std::string(100, 'z'))});
  for (int64_t number = 0; number < 40; ++number) {
    auto task = started(R"({"prompt":"x","stream":true,"max_tokens":100,"n":2})");
    for (int64_t turns = 0; turns < number % 4; ++turns) executor_->turn();
    settle();
    {
      const FailingAllocation failing(number / 4, kAllThatCome);
      task->abandon();
      task.reset();
    }
    num_requests_ += 1;  // two choices
    expect_quiet();
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace tidemill

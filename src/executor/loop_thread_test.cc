#include <gtest/gtest.h>

#include "executor/executor_fixture.h"

namespace tidemill {
namespace {

// What a runner was called for, and on which threads. Written by the loop's thread; read when that
// has ended.
struct Calls {
  std::vector<std::thread::id> entered;
  std::vector<std::thread::id> ran;
};

class WatchedRunner : public ScriptRunner {
 public:
  WatchedRunner(const Script& script, Calls& calls) : ScriptRunner(script), calls_(calls) {}
  void enter_thread() override {
    EXPECT_TRUE(calls_.ran.empty());
    calls_.entered.push_back(std::this_thread::get_id());
  }
  StepResult& run(const StepInput& input) override {
    calls_.ran.push_back(std::this_thread::get_id());
    return ScriptRunner::run(input);
  }

 private:
  Calls& calls_;
};

using LoopThread = ExecutorTest;

TEST_F(LoopThread, EntersItsRunnerOnceBeforeTheFirstStepAndStaysThere) {
  const Script script{.rules = {rule("", "abc")}};
  Calls calls;
  start(std::make_unique<WatchedRunner>(script, calls), script, {});
  ask(fields("x"));
  executor_.reset();
  ASSERT_EQ(calls.entered.size(), 1u);
  EXPECT_NE(calls.entered[0], std::this_thread::get_id());
  EXPECT_GE(calls.ran.size(), 3u);
  for (const std::thread::id id : calls.ran) EXPECT_EQ(id, calls.entered[0]);
}

}  // namespace
}  // namespace tidemill

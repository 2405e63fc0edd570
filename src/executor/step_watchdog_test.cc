#include "executor/step_watchdog.h"

#include <gtest/gtest.h>

namespace tidemill {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

const ExecutorOptions kOptions{.step_watchdog_ms = 10'000, .predict_timeout_ms = 120'000};

TEST(StepWatchdog, Q_8_ItsTimeFollowsTheLongestHealthyStepUpToTheTimeOut) {
  LoopGauges gauges;
  EXPECT_EQ(watchdog_time(gauges, kOptions), seconds(10));
  gauges.longest_step.store(milliseconds(500));
  EXPECT_EQ(watchdog_time(gauges, kOptions), seconds(10));
  gauges.longest_step.store(milliseconds(501));
  EXPECT_EQ(watchdog_time(gauges, kOptions), milliseconds(10'020));
  gauges.longest_step.store(seconds(60));
  EXPECT_EQ(watchdog_time(gauges, kOptions), seconds(120));
}

TEST(StepWatchdog, L_1_ALoopIsStalledWhenItsBeatIsOld) {
  LoopGauges gauges;
  const auto now = Clock::now();
  EXPECT_FALSE(stalled_for(gauges, kOptions, now)) << "it has not begun";
  gauges.heartbeat.store(now);
  EXPECT_FALSE(stalled_for(gauges, kOptions, now + milliseconds(9'999)));
  EXPECT_EQ(stalled_for(gauges, kOptions, now + seconds(10)), Clock::duration(seconds(10)));
  gauges.heartbeat.store(now + seconds(10));
  EXPECT_FALSE(stalled_for(gauges, kOptions, now + seconds(10)));
  gauges.failed.store(true);
  EXPECT_FALSE(stalled_for(gauges, kOptions, now + seconds(100))) << "that is told otherwise";
}

}  // namespace
}  // namespace tidemill

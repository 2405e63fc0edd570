#include "executor/step_tally.h"

#include <gtest/gtest.h>

namespace tidemill {
namespace {

using std::chrono::milliseconds;

constexpr StepTally::Time kStart{};
const ReadLimits kLimits{
    .weight_bytes = 1000, .kv_bytes_per_token = 10, .bytes_per_second = 100'000.0};

// A decode behind 49 tokens, and a chunk of 32 behind 64.
const StepPlan kPlan{.rows = {{.first_position = 49, .num_tokens = 1, .num_score_rows = 1},
                              {.first_position = 64, .num_tokens = 32}}};
constexpr double kBytes = 1000.0 + (50 + 96) * 10.0;

TEST(StepTally, TheShareIsBytesByTimeAndByWhatTheMachineReads) {
  StepTally tally(kLimits, milliseconds(0), kStart);
  EXPECT_EQ(tally.read_share(kStart), 0.0);
  tally.step(kPlan, 0.1);
  tally.step(kPlan, 0.3);
  EXPECT_EQ(tally.read_share(kStart + milliseconds(999)), std::nullopt);
  const auto share = tally.read_share(kStart + milliseconds(1000));
  ASSERT_TRUE(share);
  EXPECT_DOUBLE_EQ(*share, 2 * kBytes / (0.4 * 100'000.0));
  EXPECT_EQ(tally.read_share(kStart + milliseconds(2500)), 0.0) << "idle since";
}

TEST(StepTally, WithoutACalibrationThereIsNoShare) {
  StepTally tally({.weight_bytes = 1000, .kv_bytes_per_token = 10}, milliseconds(1000), kStart);
  tally.step(kPlan, 0.1);
  EXPECT_EQ(tally.read_share(kStart), 0.0);
  EXPECT_EQ(tally.line(kStart + milliseconds(2000), {}).find("the machine can"), std::string::npos);
}

TEST(StepTally, ABusyModelSaysOncePerIntervalWhatItDid) {
  StepTally tally(kLimits, milliseconds(10'000), kStart);
  const SchedulerCounts counts{.running = 3, .waiting = 1, .total_blocks = 200, .held_blocks = 50};
  for (int i = 0; i < 20; ++i) tally.step(kPlan, 0.25);
  EXPECT_EQ(tally.line(kStart + milliseconds(9999), counts), "");
  EXPECT_EQ(tally.line(kStart + milliseconds(10'000), counts),
            "64.0 prompt and 2.0 new tokens/s; 3 running, 1 waiting; 25 % of the KV blocks in use; "
            "20 steps of 250.0 ms, 50 % of the time, in which they read 10 % of what the machine "
            "can");
  EXPECT_EQ(tally.line(kStart + milliseconds(20'000), counts), "") << "there was nothing to do";
}

TEST(StepTally, AnIntervalOfNothingSaysNothing) {
  StepTally tally(kLimits, milliseconds(0), kStart);
  tally.step(kPlan, 0.25);
  EXPECT_EQ(tally.line(kStart + milliseconds(100'000), {}), "");
}

}  // namespace
}  // namespace tidemill

#include "measure/rounds.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tidemill {
namespace {

using testing::DoubleEq;
using testing::Optional;

Rates rates(double bytes, double operations = 0.0) {
  return {.bytes = bytes, .operations = {operations, operations, operations}};
}

Round round_of(double seconds, const Rates& before, const Rates& after) {
  return {.work = {.tokens = 4.0, .bytes = 100.0, .operations = {.body = 600.0}},
          .seconds = seconds,
          .calls = 2,
          .before = before,
          .after = after};
}

TEST(Rounds, TheLimitIsTheLongerOfReadingAndArithmetic) {
  const Work work{.bytes = 100.0, .operations = {.body = 200.0, .head = 30.0, .attention = 20.0}};
  const Limit limit =
      limit_of(work, {.bytes = 10.0, .operations = {.body = 20.0, .head = 10.0, .attention = 5.0}});
  EXPECT_DOUBLE_EQ(limit.memory_seconds, 10.0);
  EXPECT_THAT(limit.arithmetic_seconds, Optional(DoubleEq(10.0 + 3.0 + 4.0)));
  EXPECT_DOUBLE_EQ(limit.seconds(), 17.0);
  EXPECT_FALSE(limit.bound_by_memory());
}

TEST(Rounds, ArithmeticIsLeftOutWhereARateThatItNeedsWasNotProbed) {
  const Work work{.bytes = 100.0, .operations = {.body = 200.0, .head = 30.0}};
  const Limit limit = limit_of(work, {.bytes = 10.0, .operations = {.body = 20.0}});
  EXPECT_EQ(limit.arithmetic_seconds, std::nullopt);
  EXPECT_DOUBLE_EQ(limit.seconds(), 10.0);
  // A rate that it has no use for is not missed.
  EXPECT_TRUE(limit_of({.bytes = 1.0, .operations = {.body = 2.0}},
                       {.bytes = 1.0, .operations = {.body = 1.0}})
                  .arithmetic_seconds.has_value());
}

TEST(Rounds, ProbesThatDifferByMoreThanFifteenPercentAreNotOfOneState) {
  EXPECT_TRUE(agree(rates(100.0), rates(114.9)));
  EXPECT_FALSE(agree(rates(100.0), rates(115.1)));
  EXPECT_FALSE(agree(rates(115.1), rates(100.0)));
  EXPECT_FALSE(agree(rates(100.0, 10.0), rates(100.0, 12.0)));
}

TEST(Rounds, AShareIsTheLimitByTheProbesBesideItOverTheTime) {
  const Figures figures = figures_of({round_of(20.0, rates(9.0, 50.0), rates(10.0, 50.0)),
                                      round_of(16.0, rates(10.0, 50.0), rates(10.0, 50.0)),
                                      round_of(25.0, rates(10.0, 50.0), rates(10.0, 50.0))});
  EXPECT_EQ(figures.rounds, 3);
  EXPECT_EQ(figures.dropped_rounds, 0);
  EXPECT_DOUBLE_EQ(figures.share.median, 12.0 / 20.0);
  EXPECT_DOUBLE_EQ(figures.share.min, 12.0 / 25.0);
  EXPECT_DOUBLE_EQ(figures.share.max, 12.0 / 16.0);
  EXPECT_DOUBLE_EQ(figures.share_of_memory.max, 10.0 / 16.0);
  ASSERT_TRUE(figures.share_of_arithmetic);
  EXPECT_DOUBLE_EQ(figures.share_of_arithmetic->median, 0.6);
  EXPECT_FALSE(figures.bound_by_memory);
  EXPECT_DOUBLE_EQ(figures.call_ms.median, 10e3);
  EXPECT_DOUBLE_EQ(figures.tokens_per_second.median, 0.2);
}

TEST(Rounds, DisturbedRoundsAreDroppedUnlessThereIsNoOther) {
  const Round good = round_of(10.0, rates(20.0), rates(20.0));
  const Round bad = round_of(10.0, rates(20.0), rates(40.0));
  Figures figures = figures_of({bad, good, bad});
  EXPECT_EQ(figures.dropped_rounds, 2);
  EXPECT_DOUBLE_EQ(figures.share.max, 0.5);
  figures = figures_of({bad, bad});
  EXPECT_EQ(figures.dropped_rounds, 2);
  EXPECT_EQ(figures.rounds, 2);
  EXPECT_DOUBLE_EQ(figures.probe_gb_per_second.median, 30.0 * 1e-9);
}

TEST(Rounds, ARoundWhoseCoresWereTakenIsCounted) {
  Round alone = round_of(10.0, rates(20.0), rates(20.0));
  Round shared = alone;
  alone.cpu_share = 0.98;
  shared.cpu_share = 0.96;
  const Figures figures = figures_of({alone, shared, shared});
  EXPECT_EQ(figures.disturbed_rounds, 2);
  EXPECT_DOUBLE_EQ(figures.cpu_share, 0.96);
}

}  // namespace
}  // namespace tidemill

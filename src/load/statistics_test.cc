#include "load/statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tidemill {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;

// The expected numbers are numpy's: numpy.percentile([1, 2, 4, 8, 16], p).
TEST(Statistics, PercentilesLieLinearlyBetweenNeighbours) {
  const double values[] = {1, 2, 4, 8, 16};
  const struct {
    double percent, expected;
  } cases[] = {{0, 1},     {10, 1.4},   {25, 2},        {50, 4},  {62.5, 6},
               {90, 12.8}, {99, 15.68}, {99.9, 15.968}, {100, 16}};
  for (const auto& c : cases) {
    EXPECT_NEAR(percentile(values, c.percent), c.expected, 1e-12) << c.percent;
  }
  const double one[] = {7};
  for (const double percent : {0.0, 33.0, 100.0}) EXPECT_EQ(percentile(one, percent), 7);
}

// numpy: mean, median and std (ddof 0) of [3, 1, 4, 1, 5, 9, 2, 6].
TEST(Statistics, ASummaryNeedsNoOrder) {
  const double percents[] = {90, 50};
  const Summary summary = summarize({3, 1, 4, 1, 5, 9, 2, 6}, percents);
  EXPECT_EQ(summary.count, 8);
  EXPECT_NEAR(summary.mean, 3.875, 1e-12);
  EXPECT_NEAR(summary.median, 3.5, 1e-12);
  EXPECT_NEAR(summary.std, 2.5708704751503917, 1e-12);
  EXPECT_EQ(summary.max, 9);
  EXPECT_THAT(summary.percentiles, ElementsAre(DoubleNear(6.9, 1e-12), DoubleNear(3.5, 1e-12)));
}

TEST(Statistics, NothingMeasuredIsCountZero) {
  const double percents[] = {99};
  const Summary summary = summarize({}, percents);
  EXPECT_EQ(summary.count, 0);
  EXPECT_THAT(summary.percentiles, ElementsAre(0.0));
}

TEST(Statistics, PercentsAreReadOrRefusedByName) {
  EXPECT_THAT(*parse_percents("50,99.9", "metric_percentiles"), ElementsAre(50, 99.9));
  for (const char* wrong : {"50,x", "101", "-1", "50,,90", "nan"}) {
    const auto refused = parse_percents(wrong, "metric_percentiles");
    ASSERT_FALSE(refused) << wrong;
    EXPECT_THAT(refused.error().message, HasSubstr("metric_percentiles is " + std::string(wrong)));
  }
}

}  // namespace
}  // namespace tidemill

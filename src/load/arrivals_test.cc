#include "load/arrivals.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace tidemill {
namespace {

constexpr int kArrivals = 20'000;

struct Gaps {
  double mean = 0.0;
  double variation = 0.0;  // deviation over mean; 1 / sqrt(burstiness) in the limit
  int above_mean = 0;
};

Gaps gaps_of(double rate, double burstiness, uint64_t seed) {
  Arrivals arrivals(rate, burstiness, seed);
  std::vector<double> gaps;
  double last = 0.0, sum = 0.0, squares = 0.0;
  for (int i = 0; i < kArrivals; ++i) {
    const double now = arrivals.next();
    EXPECT_GE(now, last);
    gaps.push_back(now - last);
    sum += now - last;
    last = now;
  }
  Gaps result{.mean = sum / kArrivals};
  for (const double gap : gaps) {
    squares += (gap - result.mean) * (gap - result.mean);
    result.above_mean += gap > result.mean;
  }
  result.variation = std::sqrt(squares / kArrivals) / result.mean;
  return result;
}

// Four deviations of the mean of 20,000 gaps are 4 / sqrt(20,000 * burstiness) of it.
TEST(Arrivals, TheMeanGapIsTheRatesInverseWhateverTheBurstiness) {
  for (const double burstiness : {0.25, 1.0, 4.0}) {
    const double tolerance = 4.0 / std::sqrt(kArrivals * burstiness);
    EXPECT_NEAR(gaps_of(5.0, burstiness, 1).mean * 5.0, 1.0, tolerance) << burstiness;
  }
}

TEST(Arrivals, BurstinessIsTheShapeOfTheGaps) {
  for (const double burstiness : {0.25, 1.0, 4.0, 100.0}) {
    EXPECT_NEAR(gaps_of(5.0, burstiness, 2).variation * std::sqrt(burstiness), 1.0, 0.1)
        << burstiness;
  }
}

TEST(Arrivals, WithBurstinessOneTheGapsAreExponential) {
  // Of an exponential distribution, 1/e lies above the mean: 7358 of 20,000, deviation 68.
  EXPECT_NEAR(gaps_of(5.0, 1.0, 3).above_mean, kArrivals / std::exp(1.0), 4 * 68);
}

TEST(Arrivals, EqualSeedsGiveEqualArrivals) {
  Arrivals one(3.0, 0.5, 7), same(3.0, 0.5, 7), other(3.0, 0.5, 8);
  bool differs = false;
  for (int i = 0; i < 10; ++i) {
    const double arrival = one.next();
    EXPECT_EQ(arrival, same.next());
    differs = differs || arrival != other.next();
  }
  EXPECT_TRUE(differs);
}

}  // namespace
}  // namespace tidemill

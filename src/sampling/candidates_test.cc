#include "sampling/candidates.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "kernels/select.h"
#include "kernels/test_logits.h"
#include "sampling/random.h"

namespace tidemill {
namespace {

class Candidates : public testing::TestWithParam<const Kernels*> {
 protected:
  // The `count` best against a plain sort of everything.
  void expect_best(const std::vector<float>& logits, int64_t count) {
    std::vector<TokenId> order(logits.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<TokenId>(i);
    std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
      return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
    });
    const float max = *std::max_element(logits.begin(), logits.end());
    const auto size = static_cast<int64_t>(logits.size());
    const test::OwnedLogits owned(*GetParam(), logits);
    const LogitRow row{*GetParam(), owned.view(), max, std::pmr::get_default_resource()};
    const CandidateList best = best_tokens(row, count);
    ASSERT_EQ(static_cast<int64_t>(best.size()), std::min(count, size));
    for (size_t i = 0; i < best.size(); ++i) {
      ASSERT_EQ(best[i].id, order[i]) << "place " << i << " of " << count << " of " << size;
      ASSERT_EQ(best[i].logit, logits[static_cast<size_t>(order[i])]);
    }
  }
};

TEST_P(Candidates, AreTheBestOfAFullSortWithTiesByLowerId) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 400; ++round) {
    const float spread = std::pow(10.0f, static_cast<float>(random() % 7) - 3.0f);
    std::normal_distribution<float> normal(0.0f, spread);
    std::vector<float> logits(1 + random() % 5000);
    for (float& logit : logits)
      logit = round % 2 == 0 ? normal(random) : std::round(normal(random));
    expect_best(logits, static_cast<int64_t>(random() % (logits.size() + 3)));
    expect_best(logits, 1 + static_cast<int64_t>(random() % 20));
  }
}

TEST_P(Candidates, OfEqualLogitsAreTheFirst) {
  expect_best(std::vector<float>(4000, -2.5f), 50);
  expect_best(std::vector<float>(1, 0.0f), 1);
}

TEST_P(Candidates, AreFoundAtTheEndsOfTheRangeOfNumbers) {
  constexpr float kMost = std::numeric_limits<float>::max();
  expect_best({-kMost, kMost, 0.0f, -kMost, kMost}, 5);
  expect_best({-kMost, -kMost, -kMost}, 2);
  expect_best({1e30f, -1e30f, 3.0f, 2.0f}, 3);
}

INSTANTIATE_TEST_SUITE_P(EveryVariantOfThisMachine, Candidates,
                         testing::ValuesIn(runnable_variants()),
                         [](const auto& variant) { return std::string(variant.param->name); });

// A changed generator changes everybody's seeded texts: these numbers are a promise.
TEST(Random, IsTheSameOnEveryMachineAndInEveryVersion) {
  static_assert(mix(0) == 0xe220a8397b1dcdafu, "the first output of SplitMix64 seeded with 0");
  EXPECT_EQ(uniform_at(0, 0, 0), 0x1.1a988a34006fdp-1);
  EXPECT_EQ(uniform_at(1, 0, 0), 0x1.3ff1cd692af28p-1);
  EXPECT_EQ(uniform_at(1, 2, 3), 0x1.f203aaffdf7d6p-1);
  EXPECT_EQ(uniform_at(~uint64_t{0}, 63, 131071), 0x1.d21ebd586bee0p-1);
}

TEST(Random, NeighbouringPlacesAreIndependent) {
  constexpr int kDraws = 40000;
  constexpr int kBins = 8;
  std::vector<int> pairs(kBins * kBins, 0);
  for (int32_t position = 0; position < kDraws; ++position) {
    const auto bin = [](double uniform) { return static_cast<int>(uniform * kBins); };
    const int first = bin(uniform_at(position % 7, position % 3, position));
    const int second = bin(uniform_at(position % 7, position % 3, position + 1));
    ++pairs[static_cast<size_t>(first * kBins + second)];
  }
  double statistic = 0.0;
  constexpr double kExpected = static_cast<double>(kDraws) / (kBins * kBins);
  for (const int count : pairs) statistic += (count - kExpected) * (count - kExpected) / kExpected;
  EXPECT_LT(statistic, 104.0) << "99.9 % of the time, with 63 degrees of freedom";
}

}  // namespace
}  // namespace tidemill

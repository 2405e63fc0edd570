#include "sampling/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "kernels/select.h"
#include "kernels/test_logits.h"
#include "sampling/random.h"

namespace tidemill {
namespace {

class Sampler : public testing::TestWithParam<const Kernels*> {
 protected:
  SampledToken choose(const std::vector<float>& logits, const SamplingRow& row,
                      const std::vector<TokenId>& forbidden = {}) {
    return choose_token(*GetParam(), test::OwnedLogits(*GetParam(), logits).view(), row, scratch_,
                        {.forbidden = forbidden});
  }
  LogitScratch scratch_;
};

std::vector<float> random_logits(std::mt19937_64& random, size_t count, bool ties) {
  std::normal_distribution<float> normal(0.0f, 3.0f);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = ties ? std::round(normal(random)) : normal(random);
  return logits;
}

// The plain meaning: sort everything, cut, draw by the cumulative sum.
std::vector<std::pair<TokenId, double>> reference_set(const std::vector<float>& logits,
                                                      const SamplingParams& params) {
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  if (params.top_k > 0)
    order.resize(std::min<size_t>(order.size(), static_cast<size_t>(params.top_k)));
  const double max = logits[static_cast<size_t>(order[0])];
  std::vector<std::pair<TokenId, double>> set;
  double total = 0.0;
  for (const TokenId id : order) {
    set.emplace_back(id, std::exp((logits[static_cast<size_t>(id)] - max) / params.temperature));
    total += set.back().second;
  }
  double sum = 0.0;
  for (size_t i = 0; i < set.size(); ++i) {
    sum += set[i].second;
    if (params.top_p < 1.0f && sum >= params.top_p * total) {
      set.resize(i + 1);
      break;
    }
  }
  return set;
}

TEST_P(Sampler, GreedyTakesTheLowestOfTheBest) {
  EXPECT_EQ(choose({1, 5, 5, 2}, {.params = {.temperature = 0}}).token, 1);
}

// The dearest part of a row, an exponential per token of the vocabulary.
TEST_P(Sampler, AGreedyChoiceWithoutLogProbabilitiesSumsNothing) {
  static int64_t num_sums;
  static decltype(Kernels::sum_exp) sum_exp;
  num_sums = 0;
  sum_exp = GetParam()->sum_exp;
  Kernels counting = *GetParam();
  counting.sum_exp = [](const float* logits, int64_t count, float max, float factor) {
    ++num_sums;
    return sum_exp(logits, count, max, factor);
  };
  const std::vector<float> logits = {1, 5, 2};
  const test::OwnedLogits row(*GetParam(), logits);
  choose_token(counting, row.view(), {.params = {.temperature = 0}}, scratch_);
  EXPECT_EQ(num_sums, 0);
  choose_token(counting, row.view(), {.params = {.temperature = 0, .num_logprobs = 0}}, scratch_);
  EXPECT_EQ(num_sums, 1);
}

TEST_P(Sampler, OnlyTokensOfTheCutSetAreDrawn) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 300; ++round) {
    const auto logits = random_logits(random, 1 + random() % 3000, round % 3 == 0);
    const SamplingParams params{.temperature = 0.3f + static_cast<float>(random() % 20) / 10.0f,
                                .top_k = static_cast<int32_t>(random() % 3 * 17),
                                .top_p = static_cast<float>(random() % 101) / 100.0f,
                                .seed = random()};
    const auto set = reference_set(logits, params);
    for (int32_t position = 0; position < 5; ++position) {
      const TokenId token = choose(logits, {.params = params, .position = position}).token;
      const bool inside = std::any_of(set.begin(), set.end(),
                                      [&](const auto& entry) { return entry.first == token; });
      // The last of a nucleus may fall on either side of a sum that is equal but for rounding.
      const double edge = set.back().second;
      const double max = *std::max_element(logits.begin(), logits.end());
      const double weight =
          std::exp((logits[static_cast<size_t>(token)] - max) / params.temperature);
      EXPECT_TRUE(inside || weight > edge * 0.999) << "round " << round;
    }
  }
}

// Pearson's statistic of `draws` against the reference distribution.
double chi_square(const std::vector<std::pair<TokenId, double>>& set, std::vector<int> counts,
                  int draws) {
  double total = 0.0;
  for (const auto& [id, weight] : set) total += weight;
  double statistic = 0.0;
  for (const auto& [id, weight] : set) {
    const double expected = draws * weight / total;
    const double difference = counts[static_cast<size_t>(id)] - expected;
    statistic += difference * difference / expected;
  }
  return statistic;
}

TEST_P(Sampler, DrawsFollowTheDistribution) {
  const std::vector<float> logits = {2.0f, 1.0f, 0.5f, 0.0f, -0.5f, 1.5f, 0.2f, 0.9f};
  const SamplingParams settings[] = {{.temperature = 1.0f},
                                     {.temperature = 0.7f},
                                     {.temperature = 1.5f, .top_k = 4},
                                     {.temperature = 1.0f, .top_p = 0.8f}};
  constexpr int kDraws = 20000;
  for (SamplingParams params : settings) {
    params.seed = 77;
    std::vector<int> counts(logits.size(), 0);
    for (int32_t position = 0; position < kDraws; ++position) {
      ++counts[static_cast<size_t>(choose(logits, {.params = params, .position = position}).token)];
    }
    const auto set = reference_set(logits, params);
    // 99.9 % of the time below 26 with at most 8 degrees of freedom; seeds are fixed.
    EXPECT_LT(chi_square(set, counts, kDraws), 26.0);
    // The check can fail: the same counts against another temperature.
    SamplingParams other = params;
    other.temperature *= 1.3f;
    EXPECT_GT(chi_square(reference_set(logits, other), counts, kDraws), 26.0);
  }
}

TEST_P(Sampler, ADrawDependsOnSeedChoiceAndPositionAlone) {
  std::mt19937_64 random(5);
  const auto logits = random_logits(random, 500, false);
  const SamplingRow row{.params = {.temperature = 5.0f, .seed = 9}, .choice = 1, .position = 3};
  EXPECT_EQ(choose(logits, row).token, choose(logits, row).token);
  int differences = 0;
  for (int32_t i = 0; i < 20; ++i) {
    SamplingRow other = row;
    other.choice = 2 + i;
    differences += choose(logits, other).token != choose(logits, row).token;
  }
  EXPECT_GT(differences, 10);
}

TEST_P(Sampler, LogProbabilitiesAreThoseOfTheUnmodifiedLogits) {
  std::mt19937_64 random(6);
  const auto logits = random_logits(random, 777, true);
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  const SampledToken chosen =
      choose(logits, {.params = {.temperature = 0.4f, .top_k = 3, .seed = 2, .num_logprobs = 6}});
  EXPECT_NEAR(chosen.logprob, logits[static_cast<size_t>(chosen.token)] - std::log(sum), 1e-4);
  ASSERT_EQ(chosen.top.size(), 6u);
  const auto best = reference_set(logits, {.temperature = 1.0f, .top_k = 6});
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(chosen.top[i].first, best[i].first);
  for (const auto& [id, logprob] : chosen.top) {
    if (id == chosen.token) {
      EXPECT_EQ(logprob, chosen.logprob);
    }
  }
}

TEST_P(Sampler, N_1_ARowThatIsNotFiniteGivesNoToken) {
  for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    for (const size_t place : {size_t{0}, size_t{20}, size_t{36}}) {
      std::vector<float> logits(37, 1.0f);
      logits[place] = bad;
      EXPECT_FALSE(choose(logits, {}).finite);
    }
  }
}

TEST_P(Sampler, WhatIsForbiddenIsNotChosen) {
  const std::vector<float> logits = {0, 9, 3, 8};
  const SamplingRow greedy{.params = {.temperature = 0}};
  EXPECT_EQ(choose(logits, greedy, {1, 3}).token, 2);
  for (int32_t position = 0; position < 200; ++position) {
    const SamplingRow row{.params = {.temperature = 2.0f, .seed = 4}, .position = position};
    const TokenId token = choose(logits, row, {1, 3}).token;
    EXPECT_TRUE(token == 0 || token == 2);
  }
}

TEST_P(Sampler, ExtremeSettingsStayInsideTheVocabulary) {
  const std::vector<float> logits = {5.0f, -80.0f, 80.0f, 3.0f};
  EXPECT_EQ(choose(logits, {.params = {.temperature = 1e-4f, .seed = 1}}).token, 2);
  EXPECT_EQ(choose(logits, {.params = {.temperature = 1.0f, .top_p = 0.0f, .seed = 1}}).token, 2);
  for (int32_t position = 0; position < 100; ++position) {
    const SamplingRow row{.params = {.temperature = 1e6f, .top_k = 100, .seed = 3},
                          .position = position};
    const TokenId token = choose(logits, row).token;
    EXPECT_TRUE(token >= 0 && token < 4);
  }
  EXPECT_EQ(choose({7.0f}, {.params = {.temperature = 1.0f}}).token, 0);
}

TEST_P(Sampler, TheDrawIsThatOfThePlainDefinition) {
  std::mt19937_64 random(12);
  int num_edges = 0;
  for (int round = 0; round < 600; ++round) {
    const auto logits = random_logits(random, 1 + random() % 4000, round % 4 == 0);
    SamplingRow row{.params = {.temperature = 0.2f + static_cast<float>(random() % 20) / 10.0f,
                               .seed = random()},
                    .position = round};
    if (round % 3 != 0) row.params.top_k = 1 + static_cast<int32_t>(random() % 100);
    if (round % 3 != 1) row.params.top_p = static_cast<float>(random() % 100) / 100.0f;
    const auto set = reference_set(logits, row.params);
    double left = uniform_at(row.params.seed, row.choice, row.position);
    double total = 0.0;
    for (const auto& [id, weight] : set) total += weight;
    left *= total;
    size_t place = 0;
    while (place + 1 < set.size() && left >= set[place].second) left -= set[place++].second;
    num_edges += choose(logits, row).token != set[place].first;
  }
  // A sum that is equal but for rounding may put a nucleus' last token, or a draw, on either side.
  EXPECT_LE(num_edges, 6);
}

TEST_P(Sampler, DrawsFromAWholeVocabularyFollowTheDistribution) {
  std::mt19937_64 random(13);
  const auto logits = random_logits(random, 3000, false);  // several chunks, the last one short
  const SamplingParams params{.temperature = 2.0f, .seed = 5};
  std::vector<double> weights;
  for (const float logit : logits) weights.push_back(std::exp(logit / 2.0));
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  constexpr int kDraws = 20000;
  constexpr size_t kIdsPerBin = 100;
  std::vector<int> counts(30, 0);
  for (int32_t position = 0; position < kDraws; ++position) {
    const TokenId token = choose(logits, {.params = params, .position = position}).token;
    ++counts[static_cast<size_t>(token) / kIdsPerBin];
  }
  double statistic = 0.0;
  for (size_t bin = 0; bin < counts.size(); ++bin) {
    const auto begin = weights.begin() + static_cast<std::ptrdiff_t>(bin * kIdsPerBin);
    const double expected = kDraws * std::accumulate(begin, begin + kIdsPerBin, 0.0) / total;
    statistic += (counts[bin] - expected) * (counts[bin] - expected) / expected;
  }
  EXPECT_LT(statistic, 58.3) << "99.9 % of the time, with 29 degrees of freedom";
}

TEST_P(Sampler, WhatIsForbiddenStaysSoAtAnyTemperature) {
  std::vector<float> logits(100, 1.0f);
  std::vector<TokenId> ends(99);
  std::iota(ends.begin(), ends.end(), 1);
  for (const float temperature : {2e-5f, 1.0f, 1e20f, 3e38f}) {
    for (const int32_t top_k : {0, 60}) {
      for (int32_t position = 0; position < 50; ++position) {
        const SamplingRow row{.params = {.temperature = temperature, .top_k = top_k, .seed = 8},
                              .position = position};
        ASSERT_EQ(choose(logits, row, ends).token, 0) << temperature << " top_k " << top_k;
      }
    }
  }
}

TEST_P(Sampler, WhenEverythingIsForbiddenSomethingIsChosenStill) {
  const SampledToken chosen = choose({1.0f, 2.0f}, {.params = {.temperature = 0}}, {0, 1});
  EXPECT_TRUE(chosen.finite);
  EXPECT_TRUE(chosen.token == 0 || chosen.token == 1);
}

TEST_P(Sampler, ForbiddenTokensKeepTheirLogProbabilities) {
  const SampledToken chosen =
      choose({0.0f, 3.0f, 1.0f}, {.params = {.temperature = 0, .num_logprobs = 1}}, {1});
  const double sum = 1.0 + std::exp(3.0) + std::exp(1.0);
  EXPECT_EQ(chosen.token, 2);
  EXPECT_NEAR(chosen.logprob, 1.0 - std::log(sum), 1e-5);
  ASSERT_EQ(chosen.top.size(), 1u);
  EXPECT_EQ(chosen.top[0].first, 1);
  EXPECT_NEAR(chosen.top[0].second, 3.0 - std::log(sum), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(EveryVariantOfThisMachine, Sampler, testing::ValuesIn(runnable_variants()),
                         [](const auto& variant) { return std::string(variant.param->name); });

}  // namespace
}  // namespace tidemill

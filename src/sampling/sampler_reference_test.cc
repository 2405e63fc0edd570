// Everything that a request may ask of the sampler, alone and together, against the plain meaning:
// maps, full sorts, doubles.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "kernels/select.h"
#include "kernels/test_logits.h"
#include "sampling/random.h"
#include "sampling/sampler.h"

namespace tidemill {
namespace {

struct Asked {
  SamplingRow row;
  std::vector<TokenId> allowed = {}, forbidden = {}, bias_ids = {};
  std::vector<float> bias = {};
  std::vector<TokenId> prompt = {}, output = {};
  LogitChanges changes() const {
    return {.allowed = allowed,
            .forbidden = forbidden,
            .bias_ids = bias_ids,
            .bias = bias,
            .prompt = prompt,
            .output = output};
  }
};

using Weights = std::vector<std::pair<TokenId, double>>;  // in the order of the draw

// The logits of the ids that may be chosen, as apis.md 5 says.
std::map<TokenId, float> reference_logits(const std::vector<float>& logits, const Asked& asked) {
  std::map<TokenId, float> changed;
  for (size_t i = 0; i < logits.size(); ++i) changed[static_cast<TokenId>(i)] = logits[i];
  for (size_t i = 0; i < asked.bias.size(); ++i) {
    float& logit = changed.at(asked.bias_ids[i]);
    logit = static_cast<float>(static_cast<double>(logit) + asked.bias[i]);
  }
  std::set<TokenId> seen(asked.prompt.begin(), asked.prompt.end());
  seen.insert(asked.output.begin(), asked.output.end());
  const SamplingParams& params = asked.row.params;
  for (const TokenId id : seen) {
    double logit = changed.at(id);
    logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    const auto count = std::count(asked.output.begin(), asked.output.end(), id);
    logit -= static_cast<double>(params.frequency_penalty) * static_cast<double>(count);
    if (count > 0) logit -= params.presence_penalty;
    changed[id] = static_cast<float>(logit);
  }
  const std::set<TokenId> allowed(asked.allowed.begin(), asked.allowed.end());
  for (const TokenId id : asked.forbidden) changed.erase(id);
  if (!allowed.empty()) std::erase_if(changed, [&](auto& e) { return !allowed.contains(e.first); });
  return changed;
}

double sum(const Weights& weights) {
  double total = 0.0;
  for (const auto& [id, weight] : weights) total += weight;
  return total;
}

void cut(Weights& weights, double p) {
  const double total = sum(weights);
  double running = 0.0;
  for (size_t i = 0; i < weights.size(); ++i) {
    running += weights[i].second;
    if (running >= p * total) return weights.resize(i + 1);
  }
}

void by_probability(Weights& weights) {
  std::sort(weights.begin(), weights.end(), [](const auto& a, const auto& b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  });
}

Weights reference_set(const std::map<TokenId, float>& logits, const SamplingParams& params) {
  double max = -HUGE_VAL;
  for (const auto& [id, logit] : logits) max = std::max<double>(max, logit);
  Weights set;
  for (const auto& [id, logit] : logits) {
    set.emplace_back(id, std::exp((logit - max) / params.temperature));
  }
  const bool all =
      params.top_k == 0 && params.top_p == 1 && params.typical_p == 1 && params.min_p == 0;
  if (all) return set;  // in the order of ids
  by_probability(set);
  if (params.top_k > 0) {
    set.resize(std::min<size_t>(set.size(), static_cast<size_t>(params.top_k)));
  }
  if (params.top_p < 1) cut(set, params.top_p);
  if (params.typical_p < 1) {
    const double total = sum(set);
    double entropy = 0.0;
    for (const auto& [id, weight] : set) {
      if (weight > 0) entropy -= weight / total * std::log(weight / total);
    }
    const auto distance = [&](double w) { return std::abs(-std::log(w / total) - entropy); };
    std::stable_sort(set.begin(), set.end(), [&](const auto& a, const auto& b) {
      return distance(a.second) < distance(b.second) - 1e-9;
    });
    cut(set, params.typical_p);
    by_probability(set);
  }
  const double least = params.min_p * set.front().second;
  std::erase_if(set, [&](const auto& entry) { return entry.second < least; });
  return set;
}

TokenId reference_draw(const Weights& set, const SamplingRow& row) {
  double left = uniform_at(row.params.seed, row.choice, row.position) * sum(set);
  size_t place = 0;
  while (place + 1 < set.size() && left >= set[place].second) left -= set[place++].second;
  return set[place].first;
}

std::vector<float> random_logits(std::mt19937_64& random, size_t count) {
  const bool ties = random() % 4 == 0;
  std::normal_distribution<float> normal(0.0f, 3.0f);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = ties ? std::round(normal(random)) : normal(random);
  if (random() % 8 == 0) logits[random() % count] = random() % 2 == 0 ? 90.0f : -90.0f;
  return logits;
}

std::vector<TokenId> random_ids(std::mt19937_64& random, size_t count, size_t vocab_size) {
  std::vector<TokenId> ids(count);
  for (TokenId& id : ids) id = static_cast<TokenId>(random() % vocab_size);
  return ids;
}

// A top_k that keeps every token is none: the order of the draw is then that of the ids.
Asked random_asked(std::mt19937_64& random, size_t vocab_size) {
  const auto chance = [&] { return random() % 3 == 0; };
  const auto fraction = [&] { return static_cast<float>(random() % 1000) / 1000.0f; };
  Asked asked{.row = {.choice = static_cast<int32_t>(random() % 4),
                      .position = static_cast<int32_t>(random() % 1000)}};
  SamplingParams& params = asked.row.params;
  params.temperature = 0.2f + 2.0f * fraction();
  params.seed = random();
  if (chance()) params.top_k = 1 + static_cast<int32_t>(random() % 60);
  if (params.top_k >= static_cast<int32_t>(vocab_size)) params.top_k = 0;
  if (chance()) params.top_p = fraction();
  if (chance()) params.typical_p = 0.01f + 0.9f * fraction();
  if (chance()) params.min_p = random() % 4 == 0 ? 1.0f : fraction() * fraction();
  if (chance()) params.repetition_penalty = 0.3f + 3.0f * fraction();
  if (chance()) params.frequency_penalty = 4.0f * fraction() - 2.0f;
  if (chance()) params.presence_penalty = 4.0f * fraction() - 2.0f;
  if (chance()) asked.forbidden = random_ids(random, random() % 4, vocab_size);
  if (chance()) {
    asked.allowed = random_ids(random, 1 + random() % 40, vocab_size);
    std::erase_if(asked.allowed, [&](TokenId id) {
      return std::count(asked.forbidden.begin(), asked.forbidden.end(), id) > 0;
    });
  }
  if (chance()) {
    asked.bias_ids = random_ids(random, 1 + random() % 9, vocab_size);
    for (size_t i = 0; i < asked.bias_ids.size(); ++i) {
      asked.bias.push_back(20.0f * fraction() - 10.0f);
    }
  }
  if (params.penalises_prompt()) asked.prompt = random_ids(random, random() % 60, vocab_size);
  if (params.penalises_output()) asked.output = random_ids(random, random() % 60, vocab_size);
  return asked;
}

class Reference : public testing::TestWithParam<const Kernels*> {
 protected:
  SampledToken choose(const std::vector<float>& logits, const Asked& asked) {
    return choose_token(*GetParam(), test::OwnedLogits(*GetParam(), logits).view(), asked.row,
                        scratch_, asked.changes());
  }
  LogitScratch scratch_;  // of all rows of a test, as a worker has it
};

TEST_P(Reference, WhateverIsAskedForTheDrawIsThatOfThePlainMeaning) {
  std::mt19937_64 random(21);
  int num_rounds = 0, num_edges = 0;
  for (int round = 0; round < 3000; ++round) {
    const auto logits = random_logits(random, 1 + random() % (round % 10 == 0 ? 4000 : 200));
    const Asked asked = random_asked(random, logits.size());
    const auto changed = reference_logits(logits, asked);
    if (changed.empty()) continue;
    const Weights set = reference_set(changed, asked.row.params);
    const TokenId token = choose(logits, asked).token;
    ASSERT_TRUE(changed.contains(token)) << "round " << round;
    num_edges += token != reference_draw(set, asked.row);
    ++num_rounds;
  }
  EXPECT_GT(num_rounds, 2500);
  // A sum that is equal but for rounding may put the last of a set, or a draw, on either side.
  EXPECT_LE(num_edges, 3);
}

TEST_P(Reference, AGreedyChoiceIsTheLowestOfTheBestChangedLogits) {
  std::mt19937_64 random(22);
  int num_changed = 0;
  for (int round = 0; round < 3000; ++round) {
    const auto logits = random_logits(random, 1 + random() % 200);
    Asked asked = random_asked(random, logits.size());
    asked.row.params.temperature = 0.0f;
    const auto changed = reference_logits(logits, asked);
    if (changed.empty()) continue;
    const auto best = std::max_element(changed.begin(), changed.end(),
                                       [](auto& a, auto& b) { return a.second < b.second; });
    ASSERT_EQ(choose(logits, asked).token, best->first) << "round " << round;
    const auto plain = std::max_element(logits.begin(), logits.end()) - logits.begin();
    num_changed += plain != best->first;
  }
  EXPECT_GT(num_changed, 500) << "changes that change nothing prove nothing";
}

TEST_P(Reference, EachPenaltyIsItsFormula) {
  const std::vector<float> logits = {4.0f, -2.0f, 1.0f, 0.5f};
  const auto changed = [&](const SamplingParams& params, const Asked& lists) {
    const test::OwnedLogits row(*GetParam(), logits);
    const Logits now = change_logits(*GetParam(), row.view(), params, lists.changes(), scratch_);
    EXPECT_EQ(*now.chunk_maxima, *std::max_element(now.values, now.values + now.count));
    return std::vector<float>(now.values, now.values + now.count);
  };
  using testing::ElementsAre;
  const Asked lists{.prompt = {0, 1}, .output = {2, 1, 2}};
  EXPECT_THAT(changed({.repetition_penalty = 2.0f}, lists), ElementsAre(2.0f, -4.0f, 0.5f, 0.5f));
  EXPECT_THAT(changed({.frequency_penalty = 0.5f}, lists), ElementsAre(4.0f, -2.5f, 0.0f, 0.5f))
      << "the prompt has no part in it";
  EXPECT_THAT(changed({.presence_penalty = -1.0f}, lists), ElementsAre(4.0f, -1.0f, 2.0f, 0.5f));
  // In order: bias, repetition, frequency and presence.
  EXPECT_THAT(
      changed({.repetition_penalty = 2.0f, .frequency_penalty = 1.0f, .presence_penalty = 0.25f},
              {.bias_ids = {2, 3}, .bias = {3.0f, 1.0f}, .prompt = {0}, .output = {2, 2}}),
      ElementsAre(2.0f, -2.0f, (1.0f + 3.0f) / 2.0f - 2.25f, 1.5f));
}

TEST_P(Reference, ABiasDoesNotAllowWhatIsForbidden) {
  const Asked asked{.row = {.params = {.temperature = 0}},
                    .allowed = {1, 2},
                    .forbidden = {2},
                    .bias_ids = {0, 2},
                    .bias = {100.0f, 100.0f}};
  EXPECT_EQ(choose({5.0f, 1.0f, 2.0f, 9.0f}, asked).token, 1);
}

TEST_P(Reference, WhereAllThatIsAllowedIsForbiddenOneOfItIsChosen) {
  for (const float temperature : {0.0f, 1.0f, 1e30f}) {
    for (int32_t position = 0; position < 50; ++position) {
      const Asked asked{
          .row = {.params = {.temperature = temperature, .seed = 3}, .position = position},
          .allowed = {1, 2},
          .forbidden = {1, 2, 3}};
      const TokenId token = choose({5.0f, 1.0f, 2.0f, 9.0f}, asked).token;
      EXPECT_TRUE(token == 1 || token == 2) << token;
    }
  }
}

TEST_P(Reference, ExtremesStayNumbersAndInsideWhatIsAllowed) {
  std::mt19937_64 random(23);
  const float extremes[] = {0.0f, -0.0f, 3.0e38f, -3.0e38f, 1e-40f, 1.0f, -1.0f};
  for (int round = 0; round < 2000; ++round) {
    std::vector<float> logits(1 + random() % 40);
    for (float& logit : logits) logit = extremes[random() % std::size(extremes)];
    Asked asked = random_asked(random, logits.size());
    const float temperatures[] = {0.0f, 2e-5f, 1.0f, 100.0f, 3e38f};
    asked.row.params.temperature = temperatures[random() % std::size(temperatures)];
    const float penalties[] = {1e-37f, 0.5f, 1.0f, 10.0f};
    asked.row.params.repetition_penalty = penalties[random() % std::size(penalties)];
    asked.row.params.num_logprobs = 3;
    asked.row.params.processed_logprobs = random() % 2 == 0;
    asked.output = random_ids(random, 20, logits.size());
    const SampledToken chosen = choose(logits, asked);
    ASSERT_TRUE(chosen.finite);
    ASSERT_TRUE(chosen.token >= 0 && static_cast<size_t>(chosen.token) < logits.size());
    ASSERT_FALSE(std::isnan(chosen.logprob)) << "round " << round;
    if (!asked.allowed.empty()) {
      ASSERT_EQ(std::count(asked.allowed.begin(), asked.allowed.end(), chosen.token) > 0, true);
    }
  }
}

// Pearson's statistic of the draws against the reference distribution.
TEST_P(Reference, DrawsFollowTheDistributionOfWhatIsKept) {
  const std::vector<float> logits = {2.0f, 1.0f, 0.5f, 0.0f, -0.5f, 1.5f, 0.2f, 0.9f};
  const std::vector<Asked> settings = {
      {.row = {.params = {.temperature = 1.0f, .min_p = 0.2f}}},
      {.row = {.params = {.temperature = 1.3f, .typical_p = 0.7f}}},
      {.row = {.params = {.temperature = 1.0f,
                          .top_k = 6,
                          .top_p = 0.95f,
                          .min_p = 0.1f,
                          .typical_p = 0.9f}}},
      {.row = {.params = {.temperature = 0.8f,
                          .repetition_penalty = 1.7f,
                          .frequency_penalty = 0.3f,
                          .presence_penalty = 0.2f}},
       .prompt = {1, 4},
       .output = {0, 0, 5}},
      {.row = {.params = {.temperature = 1.0f}},
       .allowed = {0, 2, 4, 6},
       .bias_ids = {4},
       .bias = {1.5f}}};
  constexpr int kDraws = 20000;
  const auto statistic = [](const Weights& set, const std::map<TokenId, int>& counts) {
    double all = 0.0;
    for (const auto& [id, weight] : set) {
      const double expected = kDraws * weight / sum(set);
      const auto count = counts.find(id);
      const double difference = (count == counts.end() ? 0 : count->second) - expected;
      all += difference * difference / expected;
    }
    return all;
  };
  for (Asked asked : settings) {
    asked.row.params.seed = 78;
    std::map<TokenId, int> counts;
    for (asked.row.position = 0; asked.row.position < kDraws; ++asked.row.position) {
      ++counts[choose(logits, asked).token];
    }
    const auto changed = reference_logits(logits, asked);
    const Weights set = reference_set(changed, asked.row.params);
    ASSERT_GT(set.size(), 2u) << "too few to tell distributions apart";
    EXPECT_LT(counts.size(), 9u - (set.size() < 8)) << "some were left out";
    // 99.9 % of the time below 26 with at most 8 degrees of freedom; seeds are fixed.
    EXPECT_LT(statistic(set, counts), 26.0);
    // The check can fail: the same draws against another temperature.
    SamplingParams other = asked.row.params;
    other.temperature *= 1.3f;
    EXPECT_GT(statistic(reference_set(changed, other), counts), 26.0);
  }
}

// The kernels that a plain row meets see the row itself.
TEST_P(Reference, ARowThatNothingChangesIsNotCopied) {
  static const float* row = nullptr;
  static int num_copies = 0, num_calls = 0;
  static decltype(Kernels::summarize_logits) summarize;
  static decltype(Kernels::collect_at_least) collect;
  const std::vector<float> logits = {1.0f, 5.0f, 2.0f};
  row = logits.data();
  num_copies = num_calls = 0;
  summarize = GetParam()->summarize_logits;
  collect = GetParam()->collect_at_least;
  Kernels watched = *GetParam();
  watched.summarize_logits = [](const Logits& seen) {
    num_copies += seen.values != row;
    ++num_calls;
    return summarize(seen);
  };
  watched.collect_at_least = [](const Logits& seen, float threshold, int32_t* ids,
                                int64_t capacity) {
    num_copies += seen.values != row;
    return collect(seen, threshold, ids, capacity);
  };
  const test::OwnedLogits plain(*GetParam(), logits);
  choose_token(watched, plain.view(), {.params = {.temperature = 0.7f, .min_p = 0.1f}}, scratch_);
  choose_token(watched, plain.view(), {.params = {.temperature = 0.7f, .typical_p = 0.5f}},
               scratch_);
  choose_token(watched, plain.view(), {.params = {.temperature = 0, .presence_penalty = 1}},
               scratch_);
  EXPECT_EQ(num_copies, 0);
  EXPECT_EQ(num_calls, 3) << "each row is summarised once";
  const std::vector<TokenId> output = {1};
  choose_token(watched, plain.view(), {.params = {.temperature = 0, .presence_penalty = 1}},
               scratch_, {.output = output});
  EXPECT_GT(num_copies, 0);
}

TEST_P(Reference, ATokenThatIsThereHasTheBitsThatItWouldHaveWhenChosen) {
  std::mt19937_64 random(24);
  for (int round = 0; round < 200; ++round) {
    const auto logits = random_logits(random, 1 + random() % 500);
    Asked asked = random_asked(random, logits.size());
    asked.row.params.num_logprobs = 4;
    const SampledToken chosen = choose(logits, asked);
    const SampledToken scored =
        choose(logits, {.row = {.params = {.num_logprobs = 4}, .scored = chosen.token}});
    EXPECT_EQ(scored.token, chosen.token);
    EXPECT_EQ(scored.logprob, chosen.logprob);
    EXPECT_EQ(scored.top, chosen.top);
  }
  EXPECT_FALSE(choose({1.0f, NAN}, {.row = {.scored = 0}}).finite);
}

TEST_P(Reference, RE_3_ProcessedLogProbabilitiesAreOfWhatWasDrawnFrom) {
  std::mt19937_64 random(25);
  int num_edges = 0;
  for (int round = 0; round < 1000; ++round) {
    const auto logits = random_logits(random, 1 + random() % 200);
    Asked asked = random_asked(random, logits.size());
    asked.row.params.num_logprobs = 5;
    asked.row.params.processed_logprobs = true;
    const auto changed = reference_logits(logits, asked);
    if (changed.empty()) continue;
    Weights set = reference_set(changed, asked.row.params);
    const SampledToken chosen = choose(logits, asked);
    const auto own = std::find_if(set.begin(), set.end(),
                                  [&](const auto& entry) { return entry.first == chosen.token; });
    if (own == set.end()) {
      ++num_edges;
      continue;
    }
    num_edges += std::abs(chosen.logprob - std::log(own->second / sum(set))) > 1e-3;
    ASSERT_GE(chosen.top.size(), std::min<size_t>(5, set.size()) - (set.size() > 1));
    for (const auto& [id, logprob] : chosen.top) {
      if (id == chosen.token) {
        EXPECT_EQ(logprob, chosen.logprob);
      }
    }
  }
  EXPECT_LE(num_edges, 3);
  Asked greedy{.row = {.params = {.temperature = 0, .num_logprobs = 1, .processed_logprobs = true}},
               .bias_ids = {1},
               .bias = {5.0f}};
  EXPECT_NEAR(choose({1.0f, 0.0f}, greedy).logprob, -std::log(1 + std::exp(-4.0)), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(EveryVariantOfThisMachine, Reference,
                         testing::ValuesIn(runnable_variants()),
                         [](const auto& variant) { return std::string(variant.param->name); });

}  // namespace
}  // namespace tidemill

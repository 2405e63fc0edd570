#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/check.h"
#include "sampling/candidates.h"
#include "sampling/random.h"
#include "sampling/token_filters.h"

namespace tidemill {
namespace {

// Hotter is no flatter, and a forbidden token would get a weight.
constexpr float kMaxTemperature = 1e30f;
constexpr int64_t kChunk = 1024;  // ids whose weights are summed together in a plain draw

// The whole vocabulary: inverse of the cumulative sum in order of ids, in two levels.
TokenId draw_from_all(const Row& row, double uniform) {
  std::pmr::vector<double> sums(row.memory);
  sums.reserve(static_cast<size_t>((row.logits.count + kChunk - 1) / kChunk));
  double total = 0.0;
  for (int64_t begin = 0; begin < row.logits.count; begin += kChunk) {
    const int64_t count = std::min(kChunk, row.logits.count - begin);
    sums.push_back(row.kernels.sum_exp(row.logits.values + begin, count, row.max, row.factor));
    total += sums.back();
  }
  double left = uniform * total;
  size_t chunk = 0;
  while (chunk + 1 < sums.size() && left >= sums[chunk]) left -= sums[chunk++];
  const auto begin = static_cast<int64_t>(chunk) * kChunk;
  const int64_t end = std::min(begin + kChunk, row.logits.count);
  TokenId last = static_cast<TokenId>(begin);
  for (int64_t id = begin; id < end; ++id) {
    const double weight = row.weight(row.logits.values[id]);
    if (weight > 0.0) last = static_cast<TokenId>(id);
    if (left < weight) return static_cast<TokenId>(id);
    left -= weight;
  }
  return last;  // rounding left a crumb behind the last weight
}

TokenId draw_from(const Row& row, const CandidateList& candidates, double uniform) {
  double left = uniform * sum_of_weights(row, candidates);
  TokenId last = candidates.front().id;
  for (const Candidate& candidate : candidates) {
    const double weight = row.weight(candidate.logit);
    if (weight > 0.0) last = candidate.id;
    left -= weight;
    if (left < 0.0) return candidate.id;
  }
  return last;  // rounding left a crumb behind the last weight
}

// The memory of a row's lists, when it is done.
struct GivesBack {
  std::pmr::monotonic_buffer_resource& lists;
  ~GivesBack() { lists.release(); }
};

struct Choice {
  TokenId token = 0;
  std::optional<CandidateList> drawn_from;  // nothing: every token
};

Choice sample(const Row& row, const SamplingRow& settings) {
  const SamplingParams& params = settings.params;
  const double uniform = uniform_at(params.seed, settings.choice, settings.position);
  Choice choice{.drawn_from = filter_tokens(row, params)};
  choice.token =
      choice.drawn_from ? draw_from(row, *choice.drawn_from, uniform) : draw_from_all(row, uniform);
  return choice;
}

// Of a token and of the best ones, with the factor 1 of the plain softmax or that of a temperature.
void tell_logprobs(const Row& row, int32_t num_best, SampledToken& chosen) {
  const float log_sum =
      std::log(row.kernels.sum_exp(row.logits.values, row.logits.count, row.max, row.factor));
  const auto logprob = [&](float logit) {
    return row.factor == 1.0f ? logit - (row.max + log_sum)
                              : static_cast<float>(row.exponent(logit)) - log_sum;
  };
  chosen.logprob = logprob(row.logits.values[chosen.token]);
  for (const Candidate& candidate : best_tokens(row, num_best)) {
    chosen.top.emplace_back(candidate.id, logprob(candidate.logit));
  }
}

// The same over those that a draw was made from; nothing else had a probability.
void tell_logprobs_of(const Row& row, const CandidateList& candidates, int32_t num_best,
                      SampledToken& chosen) {
  const double log_sum = std::log(sum_of_weights(row, candidates));
  for (size_t i = 0; i < candidates.size(); ++i) {
    const auto logprob = static_cast<float>(row.exponent(candidates[i].logit) - log_sum);
    if (candidates[i].id == chosen.token) chosen.logprob = logprob;
    if (i < static_cast<size_t>(num_best)) chosen.top.emplace_back(candidates[i].id, logprob);
  }
}

}  // namespace

SampledToken choose_token(const Kernels& kernels, const Logits& logits, const SamplingRow& row,
                          LogitScratch& scratch, const LogitChanges& changes) {
  const LogitSummary summary = kernels.summarize_logits(logits);
  SampledToken chosen{.finite = summary.finite};
  if (!summary.finite) return chosen;
  const SamplingParams& params = row.params;
  const GivesBack gives_back{scratch.lists};
  const Row unmodified{{kernels, logits, summary.max, &scratch.lists}, 1.0f};
  if (row.scored != kNoToken) {
    CHECK(row.scored >= 0 && row.scored < logits.count, "token {} of {}", row.scored, logits.count);
    chosen.token = row.scored;
    tell_logprobs(unmodified, params.num_logprobs, chosen);
    return chosen;
  }

  Row source = unmodified;
  TokenId best = summary.argmax;
  if (!changes.empty()) {
    source.logits = change_logits(kernels, logits, params, changes, scratch);
    const LogitSummary of_changed = kernels.summarize_logits(source.logits);
    source.max = of_changed.max;
    best = of_changed.argmax;
  }
  Choice choice{.token = best};
  if (!params.greedy()) {
    source.factor = 1.0f / std::min(params.temperature, kMaxTemperature);
    choice = sample(source, row);
  }
  chosen.token = choice.token;
  if (params.num_logprobs < 0) return chosen;
  if (!params.processed_logprobs) {
    tell_logprobs(unmodified, params.num_logprobs, chosen);
  } else if (choice.drawn_from) {
    tell_logprobs_of(source, *choice.drawn_from, params.num_logprobs, chosen);
  } else {
    tell_logprobs(source, params.num_logprobs, chosen);
  }
  return chosen;
}

}  // namespace tidemill

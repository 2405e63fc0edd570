#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>

#include "sampling/candidates.h"
#include "sampling/random.h"

namespace tidemill {
namespace {

constexpr float kForbidden = -3.0e38f;  // below every logit; finite, so that a row stays finite
// Hotter is no flatter, and a forbidden token would get a weight.
constexpr float kMaxTemperature = 1e30f;
constexpr int64_t kChunk = 1024;  // ids whose weights are summed together in a plain draw

// A row as sampling sees it: logits, their maximum, and the temperature's factor.
struct Row {
  const Kernels& kernels;
  const float* logits;
  int64_t vocab_size;
  float max;
  float factor;  // 1 / temperature

  double weight(float logit) const { return std::exp((static_cast<double>(logit) - max) * factor); }
  double total() const {
    return static_cast<double>(kernels.sum_exp(logits, vocab_size, max, factor));
  }
};

// The whole vocabulary: inverse of the cumulative sum in order of ids, in two levels.
TokenId draw_from_all(const Row& row, double uniform) {
  std::vector<double> sums;
  double total = 0.0;
  for (int64_t begin = 0; begin < row.vocab_size; begin += kChunk) {
    const int64_t count = std::min(kChunk, row.vocab_size - begin);
    sums.push_back(row.kernels.sum_exp(row.logits + begin, count, row.max, row.factor));
    total += sums.back();
  }
  double left = uniform * total;
  size_t chunk = 0;
  while (chunk + 1 < sums.size() && left >= sums[chunk]) left -= sums[chunk++];
  const auto begin = static_cast<int64_t>(chunk) * kChunk;
  const int64_t end = std::min(begin + kChunk, row.vocab_size);
  TokenId last = static_cast<TokenId>(begin);
  for (int64_t id = begin; id < end; ++id) {
    const double weight = row.weight(row.logits[id]);
    if (weight > 0.0) last = static_cast<TokenId>(id);
    if (left < weight) return static_cast<TokenId>(id);
    left -= weight;
  }
  return last;  // rounding left a crumb behind the last weight
}

TokenId draw_from(const Row& row, const std::vector<Candidate>& candidates, double uniform) {
  double total = 0.0;
  for (const Candidate& candidate : candidates) total += row.weight(candidate.logit);
  double left = uniform * total;
  TokenId last = candidates.front().id;
  for (const Candidate& candidate : candidates) {
    const double weight = row.weight(candidate.logit);
    if (weight > 0.0) last = candidate.id;
    left -= weight;
    if (left < 0.0) return candidate.id;
  }
  return last;  // rounding left a crumb behind the last weight
}

// Cuts candidates (best first) behind the first whose running sum reaches p of `total`. False when
// they do not reach it.
bool cut_at(const Row& row, std::vector<Candidate>& candidates, double p, double total) {
  double sum = 0.0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    sum += row.weight(candidates[i].logit);
    if (sum >= p * total) {
      candidates.resize(i + 1);
      return true;
    }
  }
  return false;
}

// The smallest set, by descending probability, whose sum reaches p. The search widens until the set
// is inside; what is e^-64 below the best has no part in a sum of floats.
std::vector<Candidate> nucleus(const Row& row, double p) {
  const double total = row.total();
  std::vector<Candidate> candidates;
  for (float distance = 4.0f; distance <= 64.0f; distance *= 2.0f) {
    candidates =
        tokens_within(row.kernels, row.logits, row.vocab_size, row.max, distance / row.factor);
    if (cut_at(row, candidates, p, total)) break;
  }
  return candidates;
}

double sum_of(const Row& row, const std::vector<Candidate>& candidates) {
  double sum = 0.0;
  for (const Candidate& candidate : candidates) sum += row.weight(candidate.logit);
  return sum;
}

TokenId sample(const Row& row, const SamplingRow& settings) {
  const SamplingParams& params = settings.params;
  const double uniform = uniform_at(params.seed, settings.choice, settings.position);
  const bool top_k = params.top_k > 0 && params.top_k < row.vocab_size;
  const bool top_p = params.top_p < 1.0f;
  if (!top_k && !top_p) return draw_from_all(row, uniform);
  std::vector<Candidate> candidates;
  if (top_k) {
    candidates = best_tokens(row.kernels, row.logits, row.vocab_size, row.max, params.top_k);
    if (top_p) cut_at(row, candidates, params.top_p, sum_of(row, candidates));
  } else {
    candidates = nucleus(row, params.top_p);
  }
  return draw_from(row, candidates, uniform);
}

}  // namespace

SampledToken choose_token(const Kernels& kernels, const float* logits, int64_t vocab_size,
                          const SamplingRow& row, std::span<const TokenId> forbidden) {
  const LogitSummary summary = kernels.summarize_logits(logits, vocab_size);
  SampledToken chosen{.finite = summary.finite};
  if (!summary.finite) return chosen;

  std::vector<float> allowed;  // a copy, made only where something is forbidden
  const float* source = logits;
  LogitSummary best = summary;
  if (!forbidden.empty()) {
    allowed.assign(logits, logits + vocab_size);
    for (const TokenId id : forbidden) {
      if (id >= 0 && id < vocab_size) allowed[static_cast<size_t>(id)] = kForbidden;
    }
    source = allowed.data();
    best = kernels.summarize_logits(source, vocab_size);
  }

  const SamplingParams& params = row.params;
  chosen.token = params.greedy() ? best.argmax
                                 : sample({kernels, source, vocab_size, best.max,
                                           1.0f / std::min(params.temperature, kMaxTemperature)},
                                          row);
  if (params.num_logprobs < 0) return chosen;
  const float log_sum =
      summary.max + std::log(kernels.sum_exp(logits, vocab_size, summary.max, 1.0f));
  chosen.logprob = logits[chosen.token] - log_sum;
  for (const Candidate& candidate :
       best_tokens(kernels, logits, vocab_size, summary.max, params.num_logprobs)) {
    chosen.top.emplace_back(candidate.id, candidate.logit - log_sum);
  }
  return chosen;
}

}  // namespace tidemill

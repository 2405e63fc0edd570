#include "sampling/token_filters.h"

#include <algorithm>
#include <cmath>

namespace tidemill {
namespace {

// A threshold is a float: looking a little further than asked, nothing is missed at the border.
constexpr float kFurther = 1.0f + 1e-5f;

// Cuts candidates (best first) behind the first whose running sum reaches p of `total`. False when
// they do not reach it.
bool cut_at(const Row& row, CandidateList& candidates, double p, double total) {
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
CandidateList nucleus(const Row& row, double p) {
  const double total = row.total();
  CandidateList candidates(row.memory);
  for (float distance = 4.0f; distance <= 64.0f; distance *= 2.0f) {
    candidates = tokens_within(row, distance / row.factor);
    if (cut_at(row, candidates, p, total)) break;
  }
  return candidates;
}

// Locally typical sampling (Meister, Pimentel, Wiher, Cotterell: Locally Typical Sampling, 2023):
// the smallest set, by ascending |-log(probability) - entropy|, whose sum reaches p. With x the
// exponents and Z the sum of weights, -log(probability) is log Z - x and the entropy is
// log Z - mean(x): the distance is |x - mean(x)|.
struct Typical {
  double total = 0.0;
  double mean = 0.0;  // of the exponents

  void add(double exponent) {
    const double weight = std::exp(exponent);
    if (weight == 0.0) return;
    total += weight;
    mean += weight * exponent;  // a sum until finish()
  }
  void finish() { mean /= total; }
  double distance(const Row& row, const Candidate& candidate) const {
    return std::abs(row.exponent(candidate.logit) - mean);
  }
};

// Leaves the typical set of `candidates`, best first; false when their sum does not reach p.
bool cut_typical(const Row& row, CandidateList& candidates, const Typical& typical, double p) {
  std::stable_sort(candidates.begin(), candidates.end(),
                   [&](const Candidate& a, const Candidate& b) {
                     return typical.distance(row, a) < typical.distance(row, b);
                   });
  const bool reached = cut_at(row, candidates, p, typical.total);
  std::sort(candidates.begin(), candidates.end(), better);
  return reached;
}

void keep_typical(const Row& row, CandidateList& candidates, double p) {
  Typical typical;
  for (const Candidate& candidate : candidates) typical.add(row.exponent(candidate.logit));
  typical.finish();
  cut_typical(row, candidates, typical, p);
}

// Of the whole vocabulary. The search widens around the mean, as that of the nucleus does below the
// best; the mean itself is no further below it than the logarithm of the vocabulary's size.
CandidateList typical_tokens(const Row& row, double p) {
  Typical typical;
  for (int64_t id = 0; id < row.logits.count; ++id)
    typical.add(row.exponent(row.logits.values[id]));
  typical.finish();
  CandidateList candidates(row.memory);
  for (double width = 1.0; width <= 128.0; width *= 2.0) {
    const auto below = static_cast<float>((width - typical.mean) / row.factor);
    candidates = tokens_within(row, below * kFurther);
    std::erase_if(candidates, [&](const Candidate& candidate) {
      return typical.distance(row, candidate) > width;
    });
    if (cut_typical(row, candidates, typical, p)) break;
  }
  return candidates;
}

// Drops what has less than min_p of the best one's probability.
void keep_probable(const Row& row, CandidateList& candidates, double min_p) {
  const double least = min_p * row.weight(candidates.front().logit);
  while (row.weight(candidates.back().logit) < least) candidates.pop_back();
}

CandidateList probable_tokens(const Row& row, double min_p) {
  const auto distance = static_cast<float>(-std::log(min_p) / row.factor);
  CandidateList candidates = tokens_within(row, distance * kFurther);
  keep_probable(row, candidates, min_p);
  return candidates;
}

}  // namespace

std::optional<CandidateList> filter_tokens(const Row& row, const SamplingParams& params) {
  std::optional<CandidateList> kept;
  if (params.top_k > 0 && params.top_k < row.logits.count) {
    kept = best_tokens(row, params.top_k);
  }
  if (params.top_p < 1.0f) {
    if (kept) {
      cut_at(row, *kept, params.top_p, sum_of_weights(row, *kept));
    } else {
      kept = nucleus(row, params.top_p);
    }
  }
  if (params.typical_p < 1.0f) {
    if (kept) {
      keep_typical(row, *kept, params.typical_p);
    } else {
      kept = typical_tokens(row, params.typical_p);
    }
  }
  if (params.min_p > 0.0f) {
    if (kept) {
      keep_probable(row, *kept, params.min_p);
    } else {
      kept = probable_tokens(row, params.min_p);
    }
  }
  return kept;
}

double sum_of_weights(const Row& row, const CandidateList& candidates) {
  double sum = 0.0;
  for (const Candidate& candidate : candidates) sum += row.weight(candidate.logit);
  return sum;
}

}  // namespace tidemill

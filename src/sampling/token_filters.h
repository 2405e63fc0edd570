// Which tokens a draw is made from: top_k, top_p, typical_p, min_p, in this order, each over what
// the ones before have left. Private to sampling/.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>

#include "kernels/kernels.h"
#include "sampling/candidates.h"
#include "sampling/sampling_params.h"

namespace tidemill {

// A row as sampling sees it: with the temperature's factor.
struct Row : LogitRow {
  float factor;  // 1 / temperature

  // Of a logit, on the scale of exponents: 0 for the best, less for the others.
  double exponent(float logit) const { return (static_cast<double>(logit) - max) * factor; }
  double weight(float logit) const { return std::exp(exponent(logit)); }
  double total() const {
    return static_cast<double>(kernels.sum_exp(logits.values, logits.count, max, factor));
  }
};

// Best first; at least one. Nothing where every token is kept.
std::optional<CandidateList> filter_tokens(const Row& row, const SamplingParams& params);

double sum_of_weights(const Row& row, const CandidateList& candidates);

}  // namespace tidemill

#include "sampling/candidates.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <utility>

namespace tidemill {
namespace {

constexpr float kFirstDistance = 4.0f;    // logits this far below the best: a few dozen tokens
constexpr float kLastDistance = 1024.0f;  // beyond this the vocabulary is taken as it is
constexpr int64_t kFirstCapacity = 512;
constexpr int kMostHalvings = 12;
// So many chunks for each token that is wanted, and few of them have a second one among the best.
constexpr int64_t kChunksPerToken = 4;

CandidateList collect(const LogitRow& row, float threshold) {
  std::pmr::vector<int32_t> ids(static_cast<size_t>(std::min(kFirstCapacity, row.logits.count)),
                                row.memory);
  const int64_t found = row.kernels.collect_at_least(row.logits, threshold, ids.data(),
                                                     static_cast<int64_t>(ids.size()));
  if (found > static_cast<int64_t>(ids.size())) {
    ids.resize(static_cast<size_t>(found));
    row.kernels.collect_at_least(row.logits, threshold, ids.data(), found);
  }
  CandidateList candidates(row.memory);
  candidates.reserve(static_cast<size_t>(found));
  for (int64_t i = 0; i < found; ++i) {
    const int32_t id = ids[static_cast<size_t>(i)];
    candidates.push_back({.id = id, .logit = row.logits.values[id]});
  }
  return candidates;
}

// The `count` greatest chunks have a token each that is no less than the least of their maxima, and
// what else there is above that stands in the same chunks.
float threshold_by_chunks(const LogitRow& row, int64_t count) {
  const float* const first = row.logits.chunk_maxima;
  std::pmr::vector<float> maxima(first, first + num_logit_chunks(row.logits.count), row.memory);
  const auto last = maxima.begin() + (count - 1);
  std::nth_element(maxima.begin(), last, maxima.end(), std::greater<>());
  return *last;
}

// How far below the maximum to look for `count` tokens: far enough for them, and near enough for
// few more where the logits allow that (equal ones cannot be told apart by a threshold).
float threshold_for(const LogitRow& row, int64_t count) {
  const auto num_within = [&](float distance) {
    return row.kernels.collect_at_least(row.logits, row.max - distance, nullptr, 0);
  };
  float near = 0.0f;
  float far = kFirstDistance;
  int64_t found = num_within(far);
  for (; found < count; found = num_within(far)) {
    if (far >= kLastDistance) return std::numeric_limits<float>::lowest();
    near = std::exchange(far, far * 2.0f);
  }
  for (int halving = 0; halving < kMostHalvings && found > count + kFirstCapacity; ++halving) {
    const float middle = (near + far) / 2.0f;
    const int64_t within = num_within(middle);
    if (within < count) {
      near = middle;
    } else {
      far = middle;
      found = within;
    }
  }
  return row.max - far;
}

}  // namespace

CandidateList best_tokens(const LogitRow& row, int64_t count) {
  count = std::min(count, row.logits.count);
  if (count <= 0) return CandidateList(row.memory);
  const bool by_chunks = count * kChunksPerToken <= num_logit_chunks(row.logits.count);
  const float threshold = by_chunks ? threshold_by_chunks(row, count) : threshold_for(row, count);
  CandidateList candidates = collect(row, threshold);
  std::partial_sort(candidates.begin(), candidates.begin() + count, candidates.end(), better);
  candidates.resize(static_cast<size_t>(count));
  return candidates;
}

CandidateList tokens_within(const LogitRow& row, float distance) {
  CandidateList candidates = collect(row, row.max - distance);
  std::sort(candidates.begin(), candidates.end(), better);
  return candidates;
}

}  // namespace tidemill

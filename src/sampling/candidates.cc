#include "sampling/candidates.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace tidemill {
namespace {

constexpr float kFirstDistance = 4.0f;    // logits this far below the best: a few dozen tokens
constexpr float kLastDistance = 1024.0f;  // beyond this the vocabulary is taken as it is
constexpr int64_t kFirstCapacity = 512;
constexpr int kMostHalvings = 12;

std::vector<Candidate> collect(const Kernels& kernels, const float* logits, int64_t vocab_size,
                               float threshold) {
  std::vector<int32_t> ids(static_cast<size_t>(std::min(kFirstCapacity, vocab_size)));
  int64_t found = kernels.collect_at_least(logits, vocab_size, threshold, ids.data(),
                                           static_cast<int64_t>(ids.size()));
  if (found > static_cast<int64_t>(ids.size())) {
    ids.resize(static_cast<size_t>(found));
    kernels.collect_at_least(logits, vocab_size, threshold, ids.data(), found);
  }
  std::vector<Candidate> candidates;
  candidates.reserve(static_cast<size_t>(found));
  for (int64_t i = 0; i < found; ++i) {
    const int32_t id = ids[static_cast<size_t>(i)];
    candidates.push_back({.id = id, .logit = logits[id]});
  }
  return candidates;
}

// How far below the maximum to look for `count` tokens: far enough for them, and near enough for
// few more where the logits allow that (equal ones cannot be told apart by a threshold).
float threshold_for(const Kernels& kernels, const float* logits, int64_t vocab_size, float max,
                    int64_t count) {
  const auto num_within = [&](float distance) {
    return kernels.collect_at_least(logits, vocab_size, max - distance, nullptr, 0);
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
  return max - far;
}

}  // namespace

std::vector<Candidate> best_tokens(const Kernels& kernels, const float* logits, int64_t vocab_size,
                                   float max, int64_t count) {
  count = std::min(count, vocab_size);
  if (count <= 0) return {};
  const float threshold = threshold_for(kernels, logits, vocab_size, max, count);
  std::vector<Candidate> candidates = collect(kernels, logits, vocab_size, threshold);
  std::partial_sort(candidates.begin(), candidates.begin() + count, candidates.end(), better);
  candidates.resize(static_cast<size_t>(count));
  return candidates;
}

std::vector<Candidate> tokens_within(const Kernels& kernels, const float* logits,
                                     int64_t vocab_size, float max, float distance) {
  std::vector<Candidate> candidates = collect(kernels, logits, vocab_size, max - distance);
  std::sort(candidates.begin(), candidates.end(), better);
  return candidates;
}

}  // namespace tidemill

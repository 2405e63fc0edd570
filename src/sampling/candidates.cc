#include "sampling/candidates.h"

#include <algorithm>

namespace tidemill {
namespace {

constexpr float kFirstDistance = 4.0f;    // logits this far below the best: a few dozen tokens
constexpr float kLastDistance = 1024.0f;  // beyond this the vocabulary is taken as it is
constexpr int64_t kFirstCapacity = 1024;

bool better(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

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

}  // namespace

std::vector<Candidate> best_tokens(const Kernels& kernels, const float* logits, int64_t vocab_size,
                                   float max, int64_t count) {
  count = std::min(count, vocab_size);
  std::vector<Candidate> candidates;
  for (float distance = kFirstDistance;; distance *= 2.0f) {
    const float threshold = distance < kLastDistance ? max - distance : -3.4e38f;
    candidates = collect(kernels, logits, vocab_size, threshold);
    if (static_cast<int64_t>(candidates.size()) >= count || distance >= kLastDistance) break;
  }
  count = std::min(count, static_cast<int64_t>(candidates.size()));
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

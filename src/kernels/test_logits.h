// For tests and benchmarks: a row of logits as the head's product leaves it.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/kernels.h"

namespace tidemill::test {

// `values` outlive this.
class OwnedLogits {
 public:
  OwnedLogits(const Kernels& kernels, const std::vector<float>& values)
      : values_(values), chunk_maxima_(static_cast<size_t>(num_logit_chunks(count()))) {
    kernels.chunk_maxima(values.data(), count(), chunk_maxima_.data());
  }
  Logits view() const { return {values_.data(), count(), chunk_maxima_.data()}; }

 private:
  int64_t count() const { return static_cast<int64_t>(values_.size()); }

  const std::vector<float>& values_;
  std::vector<float> chunk_maxima_;
};

// The plain meaning of Logits::chunk_maxima, of finite logits.
inline std::vector<float> chunk_maxima_of(const std::vector<float>& logits) {
  std::vector<float> maxima;
  for (auto begin = logits.begin(); begin != logits.end();) {
    const auto end = begin + std::min<int64_t>(kLogitChunk, logits.end() - begin);
    maxima.push_back(*std::max_element(begin, end));
    begin = end;
  }
  return maxima;
}

}  // namespace tidemill::test

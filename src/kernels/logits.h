// A row of logits, and what it comes to.
// Plain data: files compiled for wider instruction sets include this.
#pragma once

#include <stdint.h>

namespace tidemill {

// Neighbouring ids that have one entry in Logits::chunk_maxima.
inline constexpr int64_t kLogitChunk = 64;

struct Logits {
  const float* values;  // of ids 0 .. count - 1
  int64_t count;
  // [num_logit_chunks(count)]: the greatest of each kLogitChunk values, the last as far as there
  // are any; NaN where one of them is not finite.
  const float* chunk_maxima;
};

// What sampling needs to know first about one row.
struct LogitSummary {
  float max = 0.0f;
  int32_t argmax = 0;  // the lowest id among equals
  bool finite = true;  // false when any logit is NaN or +-infinity
};

}  // namespace tidemill

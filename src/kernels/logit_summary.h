// What one row of logits comes to.
// Plain data: files compiled for wider instruction sets include this.
#pragma once

#include <stdint.h>

namespace tidemill {

// Neighbouring ids whose greatest logit the menu's chunk_maxima tells.
inline constexpr int64_t kLogitChunk = 64;

// What sampling needs to know about one row of logits.
struct LogitSummary {
  float max = 0.0f;
  int32_t argmax = 0;  // the lowest id among equals
  bool finite = true;  // false when any logit is NaN or +-infinity
};

}  // namespace tidemill

// What one row of logits comes to.
// Plain data: files compiled for wider instruction sets include this.
#pragma once

#include <stdint.h>

namespace tidemill {

// What sampling needs to know about one row of logits.
struct LogitSummary {
  float max = 0.0f;
  int32_t argmax = 0;  // the lowest id among equals
  bool finite = true;  // false when any logit is NaN or +-infinity
};

}  // namespace tidemill

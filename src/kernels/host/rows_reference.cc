// What happens to single rows: norms, activations, logits. The meaning, in double.
#include <math.h>
#include <string.h>

#include "base/float16.h"
#include "kernels/host/inner.h"
#include "kernels/logit_summary.h"

namespace tidemill::reference {

void normalize(const float* in, const float* scale, int64_t count, float epsilon, float* out) {
  double squares = 0.0;
  for (int64_t i = 0; i < count; ++i) squares += static_cast<double>(in[i]) * in[i];
  const double factor = 1.0 / sqrt(squares / static_cast<double>(count) + epsilon);
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(in[i] * factor * scale[i]);
}

void silu_times_up(const float* gate, const float* up, float* out) {
  for (int i = 0; i < 16; ++i) {
    const double x = gate[i];
    out[i] = static_cast<float>(x / (1.0 + exp(-x)) * up[i]);
  }
}

void to_bf16(const float* in, int64_t count, uint16_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = tidemill::to_bf16(in[i]).bits;
}

void summarize(const float* logits, int64_t count, LogitSummary* out) {
  *out = LogitSummary{.max = logits[0]};
  for (int64_t i = 0; i < count; ++i) {
    out->finite = out->finite && isfinite(logits[i]);
    if (logits[i] > out->max) {
      out->max = logits[i];
      out->argmax = static_cast<int32_t>(i);
    }
  }
}

float sum_exp(const float* logits, int64_t count, float max, float factor) {
  double sum = 0.0;
  for (int64_t i = 0; i < count; ++i) sum += exp((static_cast<double>(logits[i]) - max) * factor);
  return static_cast<float>(sum);
}

int64_t collect(const float* logits, int64_t count, float threshold, int32_t* ids,
                int64_t capacity) {
  int64_t found = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (!(logits[i] >= threshold)) continue;
    if (found < capacity) ids[found] = static_cast<int32_t>(i);
    ++found;
  }
  return found;
}

uint64_t read_memory(const void* data, int64_t bytes) {
  uint64_t sum = 0;
  const auto* words = static_cast<const uint64_t*>(data);
  for (int64_t i = 0; i < bytes / 8; ++i) sum += words[i];
  return sum;
}

}  // namespace tidemill::reference

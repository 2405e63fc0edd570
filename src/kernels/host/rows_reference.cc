// What happens to single rows: norms, activations, logits. The meaning, in double.
#include <math.h>
#include <string.h>

#include "base/float16.h"
#include "kernels/host/inner.h"
#include "kernels/logits.h"

namespace tidemill::reference {

void normalize(const float* in, const float* scale, int64_t count, float epsilon, float* out) {
  double squares = 0.0;
  for (int64_t i = 0; i < count; ++i) squares += static_cast<double>(in[i]) * in[i];
  const double factor = 1.0 / sqrt(squares / static_cast<double>(count) + epsilon);
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(in[i] * factor * scale[i]);
}

void rotate(const float* in, const float* cos, const float* sin, int64_t half, float* out) {
  for (int64_t j = 0; j < half; ++j) {
    out[j] = in[j] * cos[j] - in[j + half] * sin[j];
    out[j + half] = in[j + half] * cos[j] + in[j] * sin[j];
  }
}

namespace {

// Of a row of the tile, the sum of channel c with its bias.
float sum_at(const FinishedTile& tile, int64_t row, int64_t c) {
  const float* sums = tile.sums + row * tile.parts * kRowSums + c;
  float x = sums[0];
  if (tile.parts == 2) x += sums[kRowSums];
  if (tile.bias != nullptr) x += tile.bias[c];
  return x;
}

void store(const FinishedTile& tile, int64_t row, int64_t c, float x) {
  unsigned char* out = tile.out + row * tile.out_stride;
  if (tile.type == DType::kF32) {
    reinterpret_cast<float*>(out)[c] = x;
  } else {
    reinterpret_cast<uint16_t*>(out)[c] = tidemill::to_bf16(x).bits;
  }
}

}  // namespace

void finish(const FinishedTile& tile) {
  for (int64_t row = 0; row < tile.num_rows; ++row) {
    for (int64_t c = 0; c < tile.num_cols; ++c) {
      float x = sum_at(tile, row, c);
      if (tile.residual != nullptr) x += tile.residual[row * tile.residual_stride + c];
      store(tile, row, c, x);
    }
  }
}

void finish_silu(const FinishedTile& tile) {
  for (int64_t row = 0; row < tile.num_rows; ++row) {
    for (int64_t c = 0; c < tile.num_cols; ++c) {
      const int64_t gate = c / 16 * 32 + c % 16;
      const double x = sum_at(tile, row, gate);
      const double up = sum_at(tile, row, gate + 16);
      store(tile, row, c, static_cast<float>(x / (1.0 + exp(-x)) * up));
    }
  }
}

void to_bf16(const float* in, int64_t count, uint16_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = tidemill::to_bf16(in[i]).bits;
}

void summarize(const Logits& logits, LogitSummary* out) {
  *out = LogitSummary{.max = logits.values[0]};
  for (int64_t i = 0; i < logits.count; ++i) {
    out->finite = out->finite && isfinite(logits.values[i]);
    if (logits.values[i] > out->max) {
      out->max = logits.values[i];
      out->argmax = static_cast<int32_t>(i);
    }
  }
}

float sum_exp(const float* logits, int64_t count, float max, float factor) {
  double sum = 0.0;
  for (int64_t i = 0; i < count; ++i) sum += exp((static_cast<double>(logits[i]) - max) * factor);
  return static_cast<float>(sum);
}

int64_t collect(const Logits& logits, float threshold, int32_t* ids, int64_t capacity) {
  int64_t found = 0;
  for (int64_t i = 0; i < logits.count; ++i) {
    if (!(logits.values[i] >= threshold)) continue;
    if (found < capacity) ids[found] = static_cast<int32_t>(i);
    ++found;
  }
  return found;
}

void chunk_maxima(const float* logits, int64_t count, float* maxima) {
  for (int64_t i = 0; i < count; i += kLogitChunk) {
    float max = logits[i];
    bool finite = true;
    for (int64_t j = i; j < i + kLogitChunk && j < count; ++j) {
      max = logits[j] > max ? logits[j] : max;
      finite = finite && isfinite(logits[j]);
    }
    maxima[i / kLogitChunk] = finite ? max : NAN;
  }
}

uint64_t read_memory(const void* data, int64_t bytes) {
  uint64_t sum = 0;
  const auto* words = static_cast<const uint64_t*>(data);
  for (int64_t i = 0; i < bytes / 8; ++i) sum += words[i];
  return sum;
}

}  // namespace tidemill::reference

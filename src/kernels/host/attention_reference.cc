// The meaning of attention over a paged cache: key blocks of 32 in order, online maximum inside
// partitions of 512 positions, partitions merged in order (flash attention, Dao et al. 2022; paged
// attention, Kwon et al. 2023).
#include <math.h>
#include <string.h>

#include "base/float16.h"
#include "kernels/host/attention_inner.h"
#include "kernels/kv_layout.h"

namespace tidemill::reference {
namespace {

struct F32 {
  static double key(const unsigned char* run, int64_t head_dim, int64_t token, int64_t d) {
    return reinterpret_cast<const float*>(run)[(token / 16 * head_dim + d) * 16 + token % 16];
  }
  static double value(const unsigned char* run, int64_t /*head_dim*/, int64_t token, int64_t d) {
    return reinterpret_cast<const float*>(run)[(d / 16 * kTokensPerBlock + token) * 16 + d % 16];
  }
  static double query(const void* q, int64_t d) { return static_cast<const float*>(q)[d]; }
  static double rounded(double probability) { return probability; }
};

struct Bf16Pairs {
  static double at(const void* data, int64_t index) {
    return to_float(Bf16{static_cast<const uint16_t*>(data)[index]});
  }
  static double key(const unsigned char* run, int64_t head_dim, int64_t token, int64_t d) {
    const int64_t pairs = (head_dim + 1) / 2;
    return at(run, ((token / 16 * pairs + d / 2) * 16 + token % 16) * 2 + d % 2);
  }
  static double value(const unsigned char* run, int64_t /*head_dim*/, int64_t token, int64_t d) {
    return at(run, ((d / 16 * (kTokensPerBlock / 2) + token / 2) * 16 + d % 16) * 2 + token % 2);
  }
  static double query(const void* q, int64_t d) { return at(q, d); }
  // Probabilities meet the values as the cache's type.
  static double rounded(double probability) {
    return to_float(tidemill::to_bf16(static_cast<float>(probability)));
  }
};

// One token's key (value) of int8 at a time: numbers, and their scale.
struct Int8Quads {
  static double scale(const unsigned char* scales, int64_t token) {
    return Bf16Pairs::at(scales, token);
  }
  static double at(const unsigned char* run, int64_t index) {
    return reinterpret_cast<const int8_t*>(run)[index];
  }
  static double key(const unsigned char* run, int64_t head_dim, int64_t token, int64_t d) {
    const int64_t quads = (head_dim + 3) / 4;
    return at(run, ((token / 16 * quads + d / 4) * 16 + token % 16) * 4 + d % 4) *
           scale(run + k_scales_offset(head_dim), token);
  }
  static double value(const unsigned char* run, int64_t head_dim, int64_t token, int64_t d) {
    return at(run, ((d / 16 * (kTokensPerBlock / 4) + token / 4) * 16 + d % 16) * 4 + token % 4) *
           scale(run + v_scales_offset(head_dim), token);
  }
  static double query(const void* q, int64_t d) { return F32::query(q, d); }
  static double rounded(double probability) { return probability; }
};

// A query's state (attention_inner.h) in double.
struct State {
  explicit State(void* memory) : element(static_cast<double*>(memory)) {}

  double& max() { return element[0]; }
  double& sum() { return element[1]; }
  double* values() { return element + kStateHeader; }

  void scale_to(double new_max, int64_t dim) {
    const double factor = max() == -INFINITY ? 0.0 : exp(max() - new_max);
    sum() *= factor;
    for (int64_t d = 0; d < dim; ++d) values()[d] *= factor;
    max() = new_max;
  }

  double* element;
};

template <typename Type>
void add_block(const AttentionTask& task, int64_t query, int64_t block, State state) {
  const int64_t begin = block * kTokensPerBlock;
  const int64_t offset = block_offset(task.block_ids[block], task.block_stride, task.bundle_stride);
  double scores[kTokensPerBlock];
  double max = state.max();
  for (int64_t t = 0; t < kTokensPerBlock; ++t) {
    scores[t] = -INFINITY;
    if (begin + t < task.first[query] || begin + t > task.last[query]) continue;
    double dot = 0.0;
    for (int64_t d = 0; d < task.head_dim; ++d) {
      dot += Type::query(task.q[query], d) * Type::key(task.keys + offset, task.head_dim, t, d);
    }
    scores[t] = dot * task.scale;
    max = fmax(max, scores[t]);
  }
  if (max == -INFINITY) return;  // nothing seen yet
  state.scale_to(max, task.head_dim);
  for (int64_t t = 0; t < kTokensPerBlock; ++t) {
    if (scores[t] == -INFINITY) continue;
    const double probability = exp(scores[t] - max);
    state.sum() += probability;
    for (int64_t d = 0; d < task.head_dim; ++d) {
      state.values()[d] +=
          Type::rounded(probability) * Type::value(task.values + offset, task.head_dim, t, d);
    }
  }
}

template <typename Type>
void attend(const AttentionTask& task) {
  const int64_t stride = state_bytes(sizeof(double), task.head_dim);
  for (int64_t query = 0; query < task.num_queries; ++query) {
    for (int64_t block = task.begin; block < task.end; ++block) {
      add_block<Type>(task, query, block, State(task.states + query * stride));
    }
  }
}

}  // namespace

void attend_f32(const AttentionTask& task) { attend<F32>(task); }
void attend_bf16(const AttentionTask& task) { attend<Bf16Pairs>(task); }
void attend_int8(const AttentionTask& task) { attend<Int8Quads>(task); }

void clear_state(void* state, int64_t padded_dim) {
  memset(state, 0, static_cast<size_t>(kStateHeader + padded_dim) * sizeof(double));
  State(state).max() = -INFINITY;
}

void merge_state(const void* partition, int64_t padded_dim, void* total) {
  const auto* part = static_cast<const double*>(partition);
  State sum(total);
  const double max = fmax(sum.max(), part[0]);
  sum.scale_to(max, padded_dim);
  const double factor = exp(part[0] - max);
  sum.sum() += part[1] * factor;
  for (int64_t d = 0; d < padded_dim; ++d) sum.values()[d] += part[kStateHeader + d] * factor;
}

void finish_state(const void* total, int64_t padded_dim, float* out) {
  const auto* state = static_cast<const double*>(total);
  for (int64_t d = 0; d < padded_dim; ++d) {
    out[d] = static_cast<float>(state[kStateHeader + d] / state[1]);
  }
}

}  // namespace tidemill::reference

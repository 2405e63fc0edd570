// The meaning of attention over a paged cache: key blocks of 32 in order, online maximum inside
// partitions of 512 positions, partitions merged in order (flash attention, Dao et al. 2022; paged
// attention, Kwon et al. 2023).
#include <math.h>
#include <string.h>

#include "base/float16.h"
#include "kernels/host/inner.h"
#include "kernels/kv_layout.h"

namespace tidemill::reference {
namespace {

struct F32 {
  static constexpr int64_t kBytes = 4;  // of an element

  static double key(const unsigned char* run, int64_t head_dim, int64_t token, int64_t d) {
    return reinterpret_cast<const float*>(run)[(token / 16 * head_dim + d) * 16 + token % 16];
  }
  static double value(const unsigned char* run, int64_t token, int64_t d) {
    return reinterpret_cast<const float*>(run)[(d / 16 * kTokensPerBlock + token) * 16 + d % 16];
  }
  static double query(const void* q, int64_t d) { return static_cast<const float*>(q)[d]; }
  static double rounded(double probability) { return probability; }
};

struct Bf16Pairs {
  static constexpr int64_t kBytes = 2;

  static double at(const void* data, int64_t index) {
    return to_float(Bf16{static_cast<const uint16_t*>(data)[index]});
  }
  static double key(const unsigned char* run, int64_t head_dim, int64_t token, int64_t d) {
    const int64_t pairs = (head_dim + 1) / 2;
    return at(run, ((token / 16 * pairs + d / 2) * 16 + token % 16) * 2 + d % 2);
  }
  static double value(const unsigned char* run, int64_t token, int64_t d) {
    return at(run, ((d / 16 * (kTokensPerBlock / 2) + token / 2) * 16 + d % 16) * 2 + token % 2);
  }
  static double query(const void* q, int64_t d) { return at(q, d); }
  // Probabilities meet the values as the cache's type.
  static double rounded(double probability) {
    return to_float(tidemill::to_bf16(static_cast<float>(probability)));
  }
};

// A running softmax: maximum, sum of exp(score - maximum), and the values weighted by them.
struct State {
  double max = -INFINITY;
  double sum = 0.0;
  double out[kMaxHeadDim] = {};

  void scale_to(double new_max, int64_t head_dim) {
    const double factor = max == -INFINITY ? 0.0 : exp(max - new_max);
    sum *= factor;
    for (int64_t d = 0; d < head_dim; ++d) out[d] *= factor;
    max = new_max;
  }
};

template <typename Type>
void add_block(const AttentionTask& task, int64_t block, State& state) {
  const int64_t begin = block * kTokensPerBlock;
  const int64_t offset = task.block_ids[block] * task.block_stride;
  double scores[kTokensPerBlock];
  double max = state.max;
  for (int64_t t = 0; t < kTokensPerBlock; ++t) {
    scores[t] = -INFINITY;
    if (begin + t < task.first || begin + t > task.last) continue;
    double dot = 0.0;
    for (int64_t d = 0; d < task.head_dim; ++d) {
      dot += Type::query(task.q, d) * Type::key(task.keys + offset, task.head_dim, t, d);
    }
    scores[t] = dot * task.scale;
    max = fmax(max, scores[t]);
  }
  state.scale_to(max, task.head_dim);
  for (int64_t t = 0; t < kTokensPerBlock; ++t) {
    if (scores[t] == -INFINITY) continue;
    const double probability = exp(scores[t] - max);
    state.sum += probability;
    for (int64_t d = 0; d < task.head_dim; ++d) {
      state.out[d] += Type::rounded(probability) * Type::value(task.values + offset, t, d);
    }
  }
}

// Of the task's first head.
template <typename Type>
void attend_head(const AttentionTask& task) {
  constexpr int64_t kBlocks = kPartitionTokens / kTokensPerBlock;
  State total;
  const int64_t end = task.last / kTokensPerBlock + 1;
  for (int64_t block = task.first / kTokensPerBlock; block < end;) {
    State partition;
    const int64_t partition_end = (block / kBlocks + 1) * kBlocks;
    for (; block < end && block < partition_end; ++block) add_block<Type>(task, block, partition);
    const double max = fmax(total.max, partition.max);
    total.scale_to(max, task.head_dim);
    partition.scale_to(max, task.head_dim);
    total.sum += partition.sum;
    for (int64_t d = 0; d < task.head_dim; ++d) total.out[d] += partition.out[d];
  }
  for (int64_t d = 0; d < task.head_dim; ++d) {
    task.out[d] = static_cast<float>(total.out[d] / total.sum);
  }
}

template <typename Type>
void attend(AttentionTask task) {
  const int64_t padded_dim = (task.head_dim + 15) / 16 * 16;
  for (int64_t head = 0; head < task.num_heads; ++head) {
    attend_head<Type>(task);
    task.q = static_cast<const unsigned char*>(task.q) + task.head_dim * Type::kBytes;
    task.out += padded_dim;
  }
}

}  // namespace

void attend_f32(const AttentionTask& task) { attend<F32>(task); }
void attend_bf16(const AttentionTask& task) { attend<Bf16Pairs>(task); }

}  // namespace tidemill::reference

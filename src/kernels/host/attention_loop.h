// Attention of one query head over the blocks of its sequence, for vector variants. Included by
// attention_*.cc, which bring `Ops`: how 32 scores are computed and how probabilities meet values.
// Everything is in an unnamed namespace, so that nothing compiled with their flags can be linked
// into other files.
//
// The order of arithmetic is the definition (kernels.h): blocks of 32 in order, online maximum
// inside partitions of 512 positions, partitions merged in order.
#pragma once

#include <stdint.h>

#include "kernels/host/inner.h"

namespace tidemill {
namespace {

constexpr int64_t kBlockTokens = 32;
constexpr int64_t kBlocksPerPartition = kPartitionTokens / kBlockTokens;
constexpr float kMasked = -3.0e38f;  // below every score; finite, so that differences are, too

// A running softmax: maximum, sum of exp(score - maximum), and the values weighted by them.
struct SoftmaxState {
  float max;
  float sum;
  alignas(64) float out[kMaxHeadDim];
};

template <typename Ops>
void clear(SoftmaxState& state, int64_t padded_dim) {
  state.max = kMasked;
  state.sum = 0.0f;
  for (int64_t d = 0; d < padded_dim; ++d) state.out[d] = 0.0f;
}

template <typename Ops>
void add_block(const AttentionTask& task, int64_t block, int64_t padded_dim, SoftmaxState& state) {
  const int64_t begin = block * kBlockTokens;
  const int64_t offset = task.block_ids[block] * task.block_stride;
  alignas(64) float scores[kBlockTokens];
  Ops::scores(task, task.keys + offset, scores);
  if (begin < task.first || begin + kBlockTokens - 1 > task.last) {
    for (int64_t t = 0; t < kBlockTokens; ++t) {
      if (begin + t < task.first || begin + t > task.last) scores[t] = kMasked;
    }
  }
  const float block_max = Ops::max(scores);
  const float max = block_max > state.max ? block_max : state.max;
  const float factor = Ops::exp_one(state.max - max);  // of two masked maxima: exp(0) of nothing
  state.sum = state.sum * factor + Ops::exponentials(scores, max);
  Ops::accumulate(scores, task.values + offset, padded_dim, factor, state.out);
  state.max = max;
}

template <typename Ops>
void merge(const SoftmaxState& partition, int64_t padded_dim, SoftmaxState& total) {
  const float max = partition.max > total.max ? partition.max : total.max;
  const float old_factor = Ops::exp_one(total.max - max);
  const float new_factor = Ops::exp_one(partition.max - max);
  total.sum = total.sum * old_factor + partition.sum * new_factor;
  for (int64_t d = 0; d < padded_dim; ++d) {
    total.out[d] = total.out[d] * old_factor + partition.out[d] * new_factor;
  }
  total.max = max;
}

template <typename Ops>
void attend(const AttentionTask& task) {
  const int64_t padded_dim = (task.head_dim + 15) / 16 * 16;
  const int64_t end = task.last / kBlockTokens + 1;
  SoftmaxState total;
  clear<Ops>(total, padded_dim);
  for (int64_t block = task.first / kBlockTokens; block < end;) {
    SoftmaxState partition;
    clear<Ops>(partition, padded_dim);
    const int64_t partition_end = (block / kBlocksPerPartition + 1) * kBlocksPerPartition;
    for (; block < end && block < partition_end; ++block) {
      add_block<Ops>(task, block, padded_dim, partition);
    }
    merge<Ops>(partition, padded_dim, total);
  }
  for (int64_t d = 0; d < padded_dim; ++d) task.out[d] = total.out[d] / total.sum;
}

}  // namespace
}  // namespace tidemill

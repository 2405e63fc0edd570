// Attention of query heads that share a kv head over the blocks of their sequence, for vector
// variants. Included by attention_*.cc, which bring `Ops`: how scores are computed, how
// probabilities meet values, and for how many heads at once (Ops::kHeadsAtOnce). Everything is in
// an unnamed namespace, so that nothing compiled with their flags can be linked into other files.
//
// The order of arithmetic is the definition (kernels.h): blocks of 32 in order, online maximum
// inside partitions of 512 positions, partitions merged in order. Each head has chains of its own:
// several at once share what is read, and never change a head's bits.
#pragma once

#include <stdint.h>

#include "kernels/host/inner.h"

namespace tidemill {
namespace {

constexpr int64_t kBlocksPerPartition = kPartitionTokens / kTokensPerBlock;
constexpr float kMasked = -3.0e38f;  // below every score; finite, so that differences are, too

// One head's running softmax: maximum, sum of exp(score - maximum), and the values weighted by
// them.
struct SoftmaxState {
  float max;
  float sum;
  float factor;                               // what the block at hand multiplies `out` by
  alignas(64) float scores[kTokensPerBlock];  // of the block at hand, then their exponentials
  alignas(64) float out[kMaxHeadDim];
};

struct Block {
  int64_t first_position;
  const unsigned char* keys;
  const unsigned char* values;
  int64_t ahead;  // bytes from here to the same place of the next block; 0 without one
};

inline void clear(SoftmaxState& state, int64_t padded_dim) {
  state.max = kMasked;
  state.sum = 0.0f;
  for (int64_t d = 0; d < padded_dim; ++d) state.out[d] = 0.0f;
}

inline Block block_at(const AttentionTask& task, int64_t index, int64_t end) {
  const int64_t offset = task.block_ids[index] * task.block_stride;
  const int64_t next = index + 1 < end ? task.block_ids[index + 1] * task.block_stride : offset;
  return {index * kTokensPerBlock, task.keys + offset, task.values + offset, next - offset};
}

// One line of the next block for each that is read of this one: in a burst they would hold up the
// arithmetic. Into L2, where a block waits without pushing this one out of L1.
inline void prefetch(const unsigned char* line) { __builtin_prefetch(line, 0, 2); }

inline void mask(const AttentionTask& task, int64_t begin, float* scores) {
  if (begin >= task.first && begin + kTokensPerBlock - 1 <= task.last) return;
  for (int64_t t = 0; t < kTokensPerBlock; ++t) {
    if (begin + t < task.first || begin + t > task.last) scores[t] = kMasked;
  }
}

template <typename Ops, int kHeads>
void add_heads(const AttentionTask& task, const Block& block, int64_t padded_dim, int64_t head,
               SoftmaxState* states) {
  Ops::template scores<kHeads>(task, head, block.keys, block.ahead, states);
  for (int h = 0; h < kHeads; ++h) {
    SoftmaxState& state = states[h];
    mask(task, block.first_position, state.scores);
    const float block_max = Ops::max(state.scores);
    const float max = block_max > state.max ? block_max : state.max;
    state.factor = Ops::exp_one(state.max - max);  // of two masked maxima: exp(0) of nothing
    state.sum = state.sum * state.factor + Ops::exponentials(state.scores, max);
    state.max = max;
  }
  Ops::template accumulate<kHeads>(states, block.values, block.ahead, padded_dim);
}

// Heads from `head` on: kHeads at once while there are so many, then fewer.
template <typename Ops, int kHeads>
void add_block(const AttentionTask& task, Block block, int64_t padded_dim, int64_t head,
               SoftmaxState* states) {
  for (; head + kHeads <= task.num_heads; head += kHeads) {
    add_heads<Ops, kHeads>(task, block, padded_dim, head, states + head);
    block.ahead = 0;  // the first heads have asked for the next block
  }
  if constexpr (kHeads > 1) {
    if (head < task.num_heads) add_block<Ops, kHeads - 1>(task, block, padded_dim, head, states);
  }
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
  const int64_t end = task.last / kTokensPerBlock + 1;
  SoftmaxState totals[kTaskHeads], partition[kTaskHeads];
  for (int64_t h = 0; h < task.num_heads; ++h) clear(totals[h], padded_dim);
  for (int64_t index = task.first / kTokensPerBlock; index < end;) {
    for (int64_t h = 0; h < task.num_heads; ++h) clear(partition[h], padded_dim);
    const int64_t partition_end = (index / kBlocksPerPartition + 1) * kBlocksPerPartition;
    for (; index < end && index < partition_end; ++index) {
      add_block<Ops, Ops::kHeadsAtOnce>(task, block_at(task, index, end), padded_dim, 0, partition);
    }
    for (int64_t h = 0; h < task.num_heads; ++h) merge<Ops>(partition[h], padded_dim, totals[h]);
  }
  for (int64_t h = 0; h < task.num_heads; ++h) {
    for (int64_t d = 0; d < padded_dim; ++d) {
      task.out[h * padded_dim + d] = totals[h].out[d] / totals[h].sum;
    }
  }
}

}  // namespace
}  // namespace tidemill

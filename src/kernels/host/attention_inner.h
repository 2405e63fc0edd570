// Attention of one host variant on plain memory: queries against the blocks of a partition. What a
// step's attention consists of, and who computes which part, is host/attention_driver.h.
//
// Plain data and declarations only, as host/inner.h explains.
#pragma once

#include <stdint.h>

#include "kernels/kv_layout.h"

namespace tidemill {

// Positions are cut into partitions, counted from 0: a query's maximum runs within one, and
// partitions merge in order.
inline constexpr int64_t kPartitionTokens = 512;
inline constexpr int64_t kPartitionBlocks = kPartitionTokens / kTokensPerBlock;

// A query's maximum may grow by groups of so many blocks, counted from position 0: of each group,
// all blocks that a query attends to are in one task.
inline constexpr int64_t kGroupBlocks = 4;
static_assert(kPartitionBlocks % kGroupBlocks == 0);

// Queries that vector variants and tiles take at once.
inline constexpr int64_t kQueryTile = 16;

// Most queries of a task. Four tiles: enough that reading a block costs little beside their
// arithmetic, few enough that their states stay in L2 beside it.
inline constexpr int64_t kTaskQueries = 4 * kQueryTile;

// A query's running softmax: maximum, sum of exp(score - maximum), and the values weighted by them.
// Elements are float, or double in the reference. Element 0 is the maximum, 1 the sum; from
// kStateHeader on, padded_dim (head_dim, padded to 16) of values. Starts on 64 bytes.
inline constexpr int64_t kStateHeader = 16;
inline constexpr int64_t kMaxStateElementBytes = 8;

constexpr int64_t padded_head_dim(int64_t head_dim) { return (head_dim + 15) / 16 * 16; }
constexpr int64_t state_bytes(int64_t element_bytes, int64_t head_dim) {
  return (kStateHeader + padded_head_dim(head_dim)) * element_bytes;
}

// From block 0 of a head to another, bytes: kv_block's arithmetic, for a task's strides.
constexpr int64_t block_offset(int64_t id, int64_t block_stride, int64_t bundle_stride) {
  const auto block = static_cast<uint64_t>(id);
  return static_cast<int64_t>(block / kBundleBlocks) * bundle_stride +
         static_cast<int64_t>(block % kBundleBlocks) * block_stride;
}

// Keys of blocks that are read as a group.
struct GroupKeys {
  const unsigned char* of_block[kGroupBlocks];
  int64_t count;
};

// Queries that share a kv head, over blocks of a partition that they share, too. A block is read
// once for all of them; a query's bits depend neither on the others nor on how blocks were dealt to
// tasks, as long as keys and values are finite: those of a sequence that are not may reach queries
// of its own that stand before them in the same step.
struct AttentionTask {
  int64_t num_queries;        // 1 .. kTaskQueries
  const void* const* q;       // of each query: head_dim elements of the cache's type, or floats
                              // where that is int8
  const int32_t* first;       // positions first .. last are attended; neither falls from one query
  const int32_t* last;        // to the next
  unsigned char* states;      // of the partition, one behind the other
  const int32_t* block_ids;   // of the sequence
  int64_t begin, end;         // blocks of the sequence
  int64_t sequence_end;       // of all that the queries attend to, in this partition or behind it
  GroupKeys next;             // what the lane reads behind the task, as far as it is known: may be
                              // asked for ahead. Values follow keys as they do here
  const unsigned char* keys;  // of this kv head in block 0 of the layer
  const unsigned char* values;
  int64_t block_stride;  // KvLayer's
  int64_t bundle_stride;
  int64_t head_dim;
  float scale;
};

struct AttentionInner {
  int64_t state_element_bytes;
  void (*attend_f32)(const AttentionTask& task);
  void (*attend_bf16)(const AttentionTask& task);
  void (*attend_int8)(const AttentionTask& task);
  // A state that has seen no key.
  void (*clear)(void* state, int64_t padded_dim);
  // total = total merged with a partition behind it.
  void (*merge)(const void* partition, int64_t padded_dim, void* total);
  // out[padded_dim] = values / sum.
  void (*finish)(const void* total, int64_t padded_dim, float* out);
};

// Defined in the files of that suffix.
#define TIDEMILL_ATTENTION(variant)                                         \
  namespace variant {                                                       \
  void attend_f32(const AttentionTask& task);                               \
  void attend_bf16(const AttentionTask& task);                              \
  void attend_int8(const AttentionTask& task);                              \
  void clear_state(void* state, int64_t padded_dim);                        \
  void merge_state(const void* partition, int64_t padded_dim, void* total); \
  void finish_state(const void* total, int64_t padded_dim, float* out);     \
  }
TIDEMILL_ATTENTION(reference)
TIDEMILL_ATTENTION(avx2)
TIDEMILL_ATTENTION(avx512)
#undef TIDEMILL_ATTENTION

// Everything else is avx512's.
namespace avx512bf16 {
void attend_bf16(const AttentionTask& task);
}  // namespace avx512bf16
namespace avx512vnni {
void attend_int8(const AttentionTask& task);
}  // namespace avx512vnni

}  // namespace tidemill

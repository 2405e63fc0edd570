// Attention of queries that share a kv head over blocks that they share, for vector variants.
// Included by attention_*.cc, which bring `Ops`: how scores are computed, how probabilities meet
// values; or walk groups of blocks instead (attention_groups.h). Everything is in an unnamed
// namespace, so that nothing compiled with their flags can be linked into other files.
//
// The order of arithmetic is the definition (kernels.h): each query has chains of its own. There
// are two ways to walk a block, and both add in the same order:
//   rows  up to Ops::kRowsAtOnce queries at once; a query's 32 scores lie side by side in registers
//   tile  16 queries at once, one to a vector element, so that maximum, exponentials and sums of
//         the softmax are vertical; pays off from some Ops::kMaxRowQueries on
#pragma once

#include <stdint.h>

#include "kernels/host/attention_inner.h"

namespace tidemill {
namespace {

constexpr int64_t kTile = kQueryTile;
constexpr int64_t kTaskTiles = kTaskQueries / kTile;
constexpr float kMasked = -3.0e38f;  // below every score; finite, so that differences are, too

// Up to 16 queries of a task with what the softmax needs of them; elements without a query attend
// everything, and nobody reads what they get.
struct QueryTile {
  alignas(64) float max[kTile];
  alignas(64) float sum[kTile];
  alignas(64) float factor[kTile];  // what the block (group) at hand multiplies values by
  alignas(64) int32_t first[kTile];
  alignas(64) int32_t last[kTile];
  int64_t count;
  const void* const* q;
  float* states;
  int64_t stride;  // floats from state to state

  float* values(int64_t query) const { return states + query * stride + kStateHeader; }
};

struct Block {
  int64_t first_position;
  const unsigned char* keys;
  const unsigned char* values;
  int64_t ahead;  // bytes from here to the same place of the block to fetch; 0 without one
};

// A line of a block ahead for each that is read of this one: in a burst they would hold up the
// arithmetic. Into L2, where a block waits without pushing this one out of L1.
[[gnu::always_inline]] inline void prefetch(const unsigned char* line) {
  __builtin_prefetch(line, 0, 2);
}

// A tile's queries of bf16 as f32, [head_dim][query].
inline void pack_widened(const AttentionTask& task, const QueryTile& tile, void* packed) {
  auto* out = static_cast<uint32_t*>(packed);
  for (int64_t i = 0; i < kTile; ++i) {
    const auto* q = static_cast<const uint16_t*>(tile.q[i < tile.count ? i : 0]);
    for (int64_t d = 0; d < task.head_dim; ++d) {
      out[d * kTile + i] = static_cast<uint32_t>(q[d]) << 16;
    }
  }
}

inline void load_tile(const AttentionTask& task, int64_t begin, QueryTile& tile) {
  const int64_t left = task.num_queries - begin;
  tile.count = left < kTile ? left : kTile;
  tile.q = task.q + begin;
  tile.stride = kStateHeader + padded_head_dim(task.head_dim);
  tile.states = reinterpret_cast<float*>(task.states) + begin * tile.stride;
  for (int64_t i = 0; i < kTile; ++i) {
    const bool real = i < tile.count;
    tile.max[i] = real ? tile.states[i * tile.stride] : kMasked;
    tile.sum[i] = real ? tile.states[i * tile.stride + 1] : 0.0f;
    tile.first[i] = real ? task.first[begin + i] : 0;
    tile.last[i] = real ? task.last[begin + i] : INT32_MAX;
  }
}

inline void store_tile(const QueryTile& tile) {
  for (int64_t i = 0; i < tile.count; ++i) {
    tile.states[i * tile.stride] = tile.max[i];
    tile.states[i * tile.stride + 1] = tile.sum[i];
  }
}

inline const unsigned char* keys_at(const AttentionTask& task, int64_t index) {
  return task.keys + block_offset(task.block_ids[index], task.block_stride, task.bundle_stride);
}

// Keys of a block of the task, or, from its end on, of what is read next. Null: not known.
inline const unsigned char* keys_ahead(const AttentionTask& task, int64_t index) {
  if (index < task.end) return keys_at(task, index);
  const int64_t behind = index - task.end;
  return behind < task.next.count ? task.next.of_block[behind] : nullptr;
}

// `distance`: which block behind it is fetched while this one is read.
inline Block block_at(const AttentionTask& task, int64_t index, int64_t distance = 1) {
  const unsigned char* keys = keys_at(task, index);
  const unsigned char* next = keys_ahead(task, index + distance);
  return {index * kTokensPerBlock, keys, keys + (task.values - task.keys),
          next == nullptr ? 0 : next - keys};
}

// The tile's queries that attend to any position of a block, or of more tokens: neither bound ever
// falls, so that they are neighbours.
struct Active {
  int64_t begin = 0;
  int64_t end = 0;
  bool masked = false;  // not all of them attend to all of it
};

inline Active active_in(const QueryTile& tile, int64_t position,
                        int64_t num_tokens = kTokensPerBlock) {
  const int64_t last = position + num_tokens - 1;
  if (tile.first[tile.count - 1] <= position && tile.last[0] >= last) return {0, tile.count};
  Active active;
  while (active.begin < tile.count && tile.last[active.begin] < position) ++active.begin;
  active.end = active.begin;
  while (active.end < tile.count && tile.first[active.end] <= last) {
    active.masked |= tile.first[active.end] > position || tile.last[active.end] < last;
    ++active.end;
  }
  return active;
}

inline void mask_row(int64_t position, int32_t first, int32_t last, float* scores) {
  for (int64_t t = 0; t < kTokensPerBlock; ++t) {
    if (position + t < first || position + t > last) scores[t] = kMasked;
  }
}

// Queries query .. query + kRows.
template <typename Ops, int kRows>
void add_rows(const AttentionTask& task, const Block& block, bool masked, int64_t query,
              QueryTile& tile) {
  alignas(64) float scores[kRows][kTokensPerBlock];
  Ops::template row_scores<kRows>(task, tile.q + query, block.keys, block.ahead, scores);
  for (int64_t r = 0; r < kRows; ++r) {
    const int64_t i = query + r;
    if (masked) mask_row(block.first_position, tile.first[i], tile.last[i], scores[r]);
    const float block_max = Ops::max(scores[r]);
    const float max = block_max > tile.max[i] ? block_max : tile.max[i];
    tile.factor[i] = Ops::exp_one(tile.max[i] - max);  // of two masked maxima: exp(0) of nothing
    tile.sum[i] = tile.sum[i] * tile.factor[i] + Ops::exponentials(scores[r], max);
    tile.max[i] = max;
  }
  Ops::template add_row_values<kRows>(task, block.values, block.ahead, query, scores, tile);
}

template <typename Ops, int kRows>
void add_rows_of(const AttentionTask& task, Block& block, const Active& active, int64_t& query,
                 QueryTile& tile) {
  for (; query + kRows <= active.end; query += kRows) {
    add_rows<Ops, kRows>(task, block, active.masked, query, tile);
    block.ahead = 0;  // the first queries have asked for the next block
  }
  if constexpr (kRows > 1) {
    if (query < active.end) add_rows_of<Ops, kRows - 1>(task, block, active, query, tile);
  }
}

template <typename Ops>
void add_tile(const AttentionTask& task, const Block& block, const Active& active,
              const void* packed, QueryTile& tile) {
  alignas(64) float scores[kTokensPerBlock * kTile];  // [token][query]
  Ops::tile_scores(task, packed, block.keys, block.ahead, scores);
  if (active.masked) Ops::mask_tile(block.first_position, tile, scores);
  Ops::tile_softmax(tile, active.masked, scores);
  Ops::add_tile_values(task, block.values, block.ahead, active.begin, active.end, scores, tile);
}

template <typename Ops>
void attend(const AttentionTask& task) {
  const int64_t num_tiles = (task.num_queries + kTile - 1) / kTile;
  QueryTile tiles[kTaskTiles];
  bool is_packed[kTaskTiles] = {};
  alignas(64) unsigned char packed[kTaskTiles][kTile * kMaxHeadDim * Ops::kPackedElementBytes];
  typename Ops::Expansion expansion;
  for (int64_t t = 0; t < num_tiles; ++t) load_tile(task, t * kTile, tiles[t]);
  for (int64_t index = task.begin; index < task.end; ++index) {
    Block block = block_at(task, index);
    Block expanded{};
    for (int64_t t = 0; t < num_tiles; ++t) {
      QueryTile& tile = tiles[t];
      const Active active = active_in(tile, block.first_position);
      if (active.end - active.begin <= Ops::kMaxRowQueries) {
        int64_t query = active.begin;
        add_rows_of<Ops, Ops::kRowsAtOnce>(task, block, active, query, tile);
        continue;
      }
      if (!is_packed[t]) Ops::pack(task, tile, packed[t]);
      is_packed[t] = true;
      if (expanded.keys == nullptr) expanded = Ops::expand(task, block, expansion);
      add_tile<Ops>(task, expanded, active, packed[t], tile);
      expanded.ahead = block.ahead = 0;
    }
  }
  for (int64_t t = 0; t < num_tiles; ++t) store_tile(tiles[t]);
}

inline void clear_values(float* state, int64_t padded_dim) {
  state[0] = kMasked;
  for (int64_t i = 1; i < kStateHeader + padded_dim; ++i) state[i] = 0.0f;
}

template <typename Ops>
void merge_values(const float* partition, int64_t padded_dim, float* total) {
  const float max = partition[0] > total[0] ? partition[0] : total[0];
  const float old_factor = Ops::exp_one(total[0] - max);
  const float new_factor = Ops::exp_one(partition[0] - max);
  total[0] = max;
  total[1] = total[1] * old_factor + partition[1] * new_factor;
  for (int64_t d = kStateHeader; d < kStateHeader + padded_dim; d += Ops::kFloats) {
    Ops::add_scaled(partition + d, new_factor, old_factor, total + d);
  }
}

template <typename Ops>
void divide_values(const float* total, int64_t padded_dim, float* out) {
  for (int64_t d = 0; d < padded_dim; d += Ops::kFloats) {
    Ops::divide(total + kStateHeader + d, total[1], out + d);
  }
}

}  // namespace
}  // namespace tidemill

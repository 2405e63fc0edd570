// Attention over a bf16 cache on tiles: a block's keys and values are B tiles as they lie, queries
// and probabilities are A tiles, and AVX-512 makes the ones of the others. A query's bits do not
// depend on how many others walk the blocks with it.
//
// What differs from attention_loop.h of the folder above: the maximum grows by groups of blocks, so
// that sums stay in their tiles for so long; and the sum of probabilities is one more column of
// values, which are 1, so it adds what was rounded to bf16.
//
// In an unnamed namespace, as attention_loop.h of the folder above explains.
#pragma once

#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/amx/attention_steps.h"
#include "kernels/host/amx/tile_blocks.h"
#include "kernels/host/attention_groups.h"
#include "kernels/host/attention_vectors_avx512.h"
#include "kernels/host/unroll.h"

namespace tidemill {
namespace {

// The steps of a task in order. Products of one step's scores stand between the work on the
// probabilities of the one before and the products of those, so that no tile is loaded from what
// has just been stored, nor a vector. (Tiles and vectors in smaller portions, in turn, gain
// nothing with heads of 64: beside a product of tiles half of the vector unit's multiply-adds stand
// still.)
template <typename Tiles>
class TileWalk {
 public:
  explicit TileWalk(const AttentionTask& task)
      : task_(task),
        columns_(1 + padded_head_dim(task.head_dim) / 16),
        half_bytes_((task.head_dim + 1) / 2 * 64),
        whole_bytes_(half_bytes_ / kTileBytes * kTileBytes) {}

  void add(const TileStep& step) {
    if (shaped_for_ != step.num_queries()) {
      finish();
      shape_for(step.num_queries());
    }
    if (step.fetches) {
      fetch_for(step);
      fetching_.fetch(kLinesBefore);
      round_scores();
      multiply_with<true>(step);
      fetching_.fetch(INT64_MAX);
    } else {
      round_scores();
      multiply_with<false>(step);
    }
    current_ = step;
  }

  // Nothing is under way any more.
  void finish() {
    round_scores();
    add_values<false>();
    current_ = {};
  }

 private:
  // Lines of each run that are asked for before scores are rounded, which takes none from L2: as
  // many as a core can wait for.
  static constexpr int64_t kLinesBefore = 16 / kGroupBlocks;
  static constexpr int64_t kSumFloats = kTileBytes / 4;                   // of a tile of sums
  static constexpr int64_t kScoreFloats = 2 * kGroupBlocks * kSumFloats;  // of a tile of queries

  void shape_for(int64_t num_queries) {
    shaped_for_ = num_queries;
    tiles_.configure(attention_shapes(num_queries, task_.head_dim));
    for (float* sums = scores_; sums < scores_ + kMaxStepTiles * kScoreFloats; sums += kSumFloats) {
      for (int64_t i = num_queries * 16; i < num_rows_read(num_queries) * 16; ++i) sums[i] = 0.0f;
    }
  }

  // Rows of scores that are read, with a query or not. Of a decode there are as many queries as
  // heads share a key.
  static int64_t num_rows_read(int64_t num_queries) {
    return num_queries <= 4 ? 4 : num_queries <= 8 ? 8 : kTile;
  }

  // Keys of a step, and values of the one before.
  template <bool kFetches>
  void multiply_with(const TileStep& step) {
    if (step.num_tiles == 2) {
      multiply_keys_by_two<kFetches>(step);
    } else {
      multiply_keys_by_one<kFetches>(step);
    }
    add_values<kFetches>();
  }

  // What is read next: a group's keys, and its values, which follow them.
  void fetch_for(const TileStep& step) {
    fetching_.clear();
    if (step.group->next.count == 0) return;
    const int64_t run_lines = (task_.values - task_.keys) / 64 + padded_head_dim(task_.head_dim);
    fetching_.set(step.group->next, run_lines);
    const int64_t loads_per_block = (task_.head_dim + 31) / 32 * 2;
    const int64_t num_loads =
        (step.end - step.begin) * loads_per_block + (current_.end - current_.begin) * columns_;
    lines_per_load_ = (run_lines + num_loads - 1) / num_loads;
  }

  // Scores of a step, not yet scaled: a tile of sums for each half of a block and tile of queries.
  // A block's are stored when the next block is under way, since what is behind a store waits with
  // it for its sums. What is read from the stack meanwhile seems to wait, too, where its address
  // ends in the same 12 bits: so few values are kept that all of them have registers.
  template <bool kFetches>
  void multiply_keys_by_one(const TileStep& step) {
    const unsigned char* const queries = step.packed;
    const unsigned char* const* block = step.group->keys + step.begin;
    const unsigned char* const* const end = step.group->keys + step.end;
    float* const first = scores_of(0, 2 * step.begin);
    float* scores = first;
    for (; end - block > 1; block += 2) {
      multiply_block_by_one<0, kFetches>(queries, block[0]);
      if (scores > first) store_block<2>(scores - 2 * kSumFloats);
      multiply_block_by_one<2, kFetches>(queries, block[1]);
      store_block<0>(scores);
      scores += 4 * kSumFloats;
    }
    if (block < end) multiply_block_by_one<0, kFetches>(queries, block[0]);
    if (scores > first) store_block<2>(scores - 2 * kSumFloats);
    if (block < end) store_block<0>(scores);
  }

  // Into the two sums from kSum on.
  template <int kSum, bool kFetches>
  [[gnu::always_inline]] void multiply_block_by_one(const unsigned char* queries,
                                                    const unsigned char* keys) {
    tiles_.template zero<kSum>();
    tiles_.template zero<kSum + 1>();
    const int64_t whole_bytes = whole_bytes_;
    int64_t at = 0;
    for (; at < whole_bytes; at += kTileBytes) {
      multiply_dims_by_one<kSum, kInputTile, kBlockTile, kFetches>(queries + at, keys + at);
    }
    if (at < half_bytes_) {
      multiply_dims_by_one<kSum, kLastQueryTile, kLastKeyTile, kFetches>(queries + at, keys + at);
    }
  }

  // 32 dims of queries times those of keys, or what a head's last dims are.
  template <int kSum, int kQ, int kK, bool kFetches>
  [[gnu::always_inline]] void multiply_dims_by_one(const unsigned char* queries,
                                                   const unsigned char* keys) {
    tiles_.template load<kQ>(queries, 64);
    load_block_tile<kK, kFetches>(keys);
    tiles_.template dot_bf16<kSum, kQ, kK>();
    load_block_tile<kK, kFetches>(keys + half_bytes_);
    tiles_.template dot_bf16<kSum + 1, kQ, kK>();
    tiles_.template zero<kK>();
    tiles_.template zero<kQ>();
  }

  template <int kSum>
  [[gnu::always_inline]] void store_block(float* scores) {
    tiles_.template store<kSum>(scores, 64);
    tiles_.template zero<kSum>();
    tiles_.template store<kSum + 1>(scores + kSumFloats, 64);
    tiles_.template zero<kSum + 1>();
  }

  // Of two tiles of queries: sums 0 and 1 are those of a block's first half. Each is stored right
  // before the next block's first product needs its tile.
  template <bool kFetches>
  void multiply_keys_by_two(const TileStep& step) {
    const unsigned char* const queries = step.packed;
    const unsigned char* const* block = step.group->keys + step.begin;
    const unsigned char* const* const end = step.group->keys + step.end;
    float* scores = scores_of(0, 2 * step.begin);
    multiply_block_by_two<false, kFetches>(queries, *block, nullptr);
    for (++block; block < end; ++block, scores += 2 * kSumFloats) {
      multiply_block_by_two<true, kFetches>(queries, *block, scores);
    }
    each<0, 4>([&](auto sum)
                   __attribute__((always_inline)) { renew_sum<sum.value, true>(scores); });
  }

  // kStores: the sums are those of the block before, and belong to `before`.
  template <bool kStores, bool kFetches>
  [[gnu::always_inline]] void multiply_block_by_two(const unsigned char* queries,
                                                    const unsigned char* keys, float* before) {
    const int64_t half_bytes = half_bytes_;
    multiply_dims_by_two<kFetches>(
        queries, keys, half_bytes, [&](auto sum) __attribute__((always_inline)) {
          renew_sum<sum.value, kStores>(before);
        });
    for (int64_t at = kTileBytes; at < half_bytes; at += kTileBytes) {
      multiply_dims_by_two<kFetches>(queries + at, keys + at, half_bytes, Nothing{});
    }
  }

  // 32 dims. begin(Index<sum>) comes before the product that is added to the sum.
  template <bool kFetches, typename Begin>
  [[gnu::always_inline]] void multiply_dims_by_two(const unsigned char* queries,
                                                   const unsigned char* keys, int64_t half_bytes,
                                                   const Begin& begin) {
    constexpr int kQ = kInputTile, kMoreQ = kInputTile + 1;
    constexpr int kK = kBlockTile, kMoreK = kBlockTile + 1;
    tiles_.template load<kQ>(queries, 64);
    load_block_tile<kK, kFetches>(keys);
    begin(Index<0>{});
    tiles_.template dot_bf16<0, kQ, kK>();
    tiles_.template load<kMoreQ>(queries + kPackedBytes, 64);
    begin(Index<1>{});
    tiles_.template dot_bf16<1, kMoreQ, kK>();
    tiles_.template zero<kK>();
    load_block_tile<kMoreK, kFetches>(keys + half_bytes);
    begin(Index<2>{});
    tiles_.template dot_bf16<2, kQ, kMoreK>();
    tiles_.template zero<kQ>();
    begin(Index<3>{});
    tiles_.template dot_bf16<3, kMoreQ, kMoreK>();
    tiles_.template zero<kMoreQ>();
    tiles_.template zero<kMoreK>();
  }

  template <int kSum, bool kStores>
  [[gnu::always_inline]] void renew_sum(float* before) {
    constexpr int64_t kPlace = kSum % 2 * kScoreFloats + kSum / 2 * kSumFloats;
    if constexpr (kStores) tiles_.template store<kSum>(before + kPlace, 64);
    tiles_.template zero<kSum>();
  }

  // Keys and values, and the ones beside them, leave L1 to scores and probabilities.
  template <int kTile, bool kFetches>
  [[gnu::always_inline]] void load_block_tile(const unsigned char* from) {
    tiles_.template load_past_l1<kTile>(from, 64);
    if constexpr (kFetches) fetching_.fetch(lines_per_load_);
  }

  // Adds the values of the current step's blocks to its states, some columns at a time; column 0 is
  // that of the sums.
  template <bool kFetches>
  void add_values() {
    int64_t column = 0;
    if (current_.num_tiles == 2) {
      for (; column + 2 <= columns_; column += 2) add_columns<2, 2, kFetches>(column);
      if (column < columns_) add_columns<2, 1, kFetches>(column);
    } else if (current_.num_tiles == 1) {
      // As many columns at once as leave none alone, which would wait for its own sums; five where
      // all tiles of inputs are whole.
      if (last_pairs(task_.head_dim) == 0) {
        for (; columns_ - column >= 5 && (columns_ - column) % 4 != 0; column += 5) {
          add_columns<1, 5, kFetches>(column);
        }
      }
      for (; column + 4 <= columns_; column += 4) add_columns<1, 4, kFetches>(column);
      for (; column < columns_; ++column) add_columns<1, 1, kFetches>(column);
    }
  }

  template <int kTiles, int kColumns, bool kFetches>
  void add_columns(int64_t column) {
    static_assert(kTiles * kColumns <= kSumTiles || (kTiles == 1 && kColumns == 5));
    constexpr int kProbabilities = kColumns == 5 ? kInputTile + 1 : kInputTile;
    constexpr int kValueTiles = kTiles == 2 || kColumns == 5 ? 2 : 1;
    const int64_t stride = current_.tiles->stride * 4;
    float* const states = current_.tiles->states + column * 16;
    float* const more_states = states + kTile * current_.tiles->stride;  // of the second tile
    const unsigned char* const* const blocks = current_.group->values;
    const unsigned char* probabilities = probabilities_ + current_.begin * kTileBytes;
    const int64_t end = current_.end;
    const int64_t offset = (column - 1) * kTileBytes;  // of the first column's values in a block
    const auto state_of = [&](auto c) {
      return (c.value % kTiles == 0 ? states : more_states) + c.value / kTiles * 16;
    };
    each<0, kTiles * kColumns>([&](auto c) { tiles_.template load<c.value>(state_of(c), stride); });
    const unsigned char* values = blocks[current_.begin];
    for (int64_t b = current_.begin; b < end; ++b) {
      const unsigned char* next = b + 1 < end ? blocks[b + 1] : values;
      tiles_.template load<kProbabilities>(probabilities, 64);
      if constexpr (kTiles == 2) {
        tiles_.template load<kInputTile + 1>(probabilities + kGroupBlocks * kTileBytes, 64);
      }
      each<0, kColumns>([&](auto c) {
        constexpr int kValue = kBlockTile + c.value % kValueTiles;
        const bool is_sum = c.value == 0 && offset < 0;
        load_block_tile<kValue, kFetches>(is_sum ? kOnes.lines
                                                 : values + offset + c.value * kTileBytes);
        tiles_.template dot_bf16<c.value * kTiles, kProbabilities, kValue>();
        if constexpr (kTiles == 2) {
          tiles_.template dot_bf16<c.value * kTiles + 1, kInputTile + 1, kValue>();
        }
        tiles_.template zero<kValue>();
      });
      each<0, kTiles>([&](auto t) { tiles_.template zero<kProbabilities + t.value>(); });
      values = next;
      probabilities += kTileBytes;
    }
    each<0, kTiles * kColumns>([&](auto c) {
      tiles_.template store<c.value>(state_of(c), stride);
      tiles_.template zero<c.value>();
    });
  }

  // [query][16 tokens]; halves of blocks are counted through the group.
  float* scores_of(int64_t tile, int64_t half) {
    return scores_ + tile * kScoreFloats + half * kSumFloats;
  }
  unsigned char* probabilities_of(int64_t tile, int64_t block) {
    return probabilities_ + (tile * kGroupBlocks + block) * kTileBytes;
  }

  template <bool kMasks>
  static __mmask16 outside_of(const QueryTile& tile, int64_t position, int query, int half) {
    if constexpr (!kMasks) return 0;
    return outside(position + half * 16, tile.first[query], tile.last[query]);
  }

  template <int kRows, bool kMasks>
  void add_maxima(int64_t t, int64_t block, __m512 (&largest)[16]) {
    const QueryTile& tile = current_.tiles[t];
    const int64_t position = current_.group->position_of(block);
    TIDEMILL_UNROLL
    for (int half = 0; half < 2; ++half) {
      const float* scores = scores_of(t, 2 * block + half);
      TIDEMILL_UNROLL_16
      for (int i = 0; i < kRows; ++i) {
        const __mmask16 others = outside_of<kMasks>(tile, position, i, half);
        largest[i] =
            _mm512_max_ps(largest[i], masked_to(kMasked, others, _mm512_load_ps(scores + i * 16)));
      }
    }
  }

  template <int kRows, bool kMasks>
  void round_block(int64_t t, int64_t block, const float* shifts) {
    const QueryTile& tile = current_.tiles[t];
    const int64_t position = current_.group->position_of(block);
    const __m512 unit = _mm512_set1_ps(task_.scale * kLog2OfE);
    const float* scores[] = {scores_of(t, 2 * block), scores_of(t, 2 * block + 1)};
    unsigned char* out = probabilities_of(t, block);
    TIDEMILL_UNROLL_16
    for (int i = 0; i < kRows; ++i) {
      const __m512 shift = _mm512_set1_ps(shifts[i]);
      __m512 p[2];
      TIDEMILL_UNROLL
      for (int half = 0; half < 2; ++half) {
        const __m512 x = _mm512_fmsub_ps(_mm512_load_ps(scores[half] + i * 16), unit, shift);
        p[half] = masked_to(0.0f, outside_of<kMasks>(tile, position, i, half), power_to_cut(x));
      }
      _mm512_store_si512(out + i * 64, upper_halves(p[0], p[1]));
    }
  }

  // Probabilities of the current step: a tile for each block.
  void round_scores() {
    for (int64_t t = 0; t < current_.num_tiles; ++t) {
      switch (num_rows_read(current_.num_queries())) {
        case 4:
          round_tile<4>(t);
          break;
        case 8:
          round_tile<8>(t);
          break;
        default:
          round_tile<kTile>(t);
      }
    }
  }

  // Maxima, what they multiply states by, and probabilities.
  template <int kRows>
  void round_tile(int64_t t) {
    QueryTile& tile = current_.tiles[t];
    __m512 largest[16];
    TIDEMILL_UNROLL_16
    for (int i = 0; i < 16; ++i) largest[i] = _mm512_set1_ps(kMasked);
    for (int64_t b = current_.begin; b < current_.end; ++b) {
      if (is_masked(tile, current_.group->position_of(b))) {
        add_maxima<kRows, true>(t, b, largest);
      } else {
        add_maxima<kRows, false>(t, b, largest);
      }
    }
    const __m512 log2_of_e = _mm512_set1_ps(kLog2OfE);
    const __m512 group_max = _mm512_mul_ps(max_of_each(largest), _mm512_set1_ps(task_.scale));
    const __m512 old_max = _mm512_load_ps(tile.max);
    const __m512 max = _mm512_max_ps(group_max, old_max);
    const __m512 growth = _mm512_mul_ps(_mm512_sub_ps(old_max, max), log2_of_e);
    _mm512_store_ps(tile.factor, power_of_two(growth));
    _mm512_store_ps(tile.max, max);
    alignas(64) float shifts[kTile];
    _mm512_store_ps(shifts, _mm512_mul_ps(max, log2_of_e));
    for (int64_t b = current_.begin; b < current_.end; ++b) {
      if (is_masked(tile, current_.group->position_of(b))) {
        round_block<kRows, true>(t, b, shifts);
      } else {
        round_block<kRows, false>(t, b, shifts);
      }
    }
    scale_states(tile);
  }

  // A factor of one leaves a state as it is.
  static void scale_states(const QueryTile& tile) {
    const __m512 factors = _mm512_load_ps(tile.factor);
    const __mmask16 changed = _mm512_cmp_ps_mask(factors, _mm512_set1_ps(1.0f), _CMP_NEQ_UQ);
    auto left = static_cast<unsigned>(changed) & ((1u << tile.count) - 1);
    for (; left != 0; left &= left - 1) {
      const int query = __builtin_ctz(left);
      const __m512 factor = _mm512_set1_ps(tile.factor[query]);
      float* state = tile.states + query * tile.stride;
      state[kSumColumn] *= tile.factor[query];
      for (int64_t d = kStateHeader; d < tile.stride; d += 16) {
        _mm512_store_ps(state + d, _mm512_mul_ps(_mm512_load_ps(state + d), factor));
      }
    }
  }

  const AttentionTask& task_;
  const int64_t columns_;      // of states
  const int64_t half_bytes_;   // of a block's keys
  const int64_t whole_bytes_;  // of those, in whole tiles
  Tiles tiles_;
  int64_t shaped_for_ = 0;  // queries; 0: tiles have no shapes yet
  TileStep current_;        // its scores are there, its values are not added yet
  LineQueue<Tiles> fetching_;
  int64_t lines_per_load_ = 0;  // of each run
  alignas(64) float scores_[kMaxStepTiles * kScoreFloats];
  alignas(64) unsigned char probabilities_[kMaxStepTiles * kGroupBlocks * kTileBytes];
};

// The sums are where they belong already.
inline void store_maxima(const QueryTile& tile) {
  for (int64_t i = 0; i < tile.count; ++i) tile.states[i * tile.stride] = tile.max[i];
}

// From how many bytes of keys and values on a walk does not expect to find them in L2, where tasks
// of the same head have left them.
constexpr int64_t kFarBytes = 1 << 20;

template <typename Tiles>
void attend_on_tiles(const AttentionTask& task) {
  const int64_t num_tiles = (task.num_queries + kTile - 1) / kTile;
  const int64_t most = max_step_tiles(task.head_dim);
  const int64_t sequence_bytes = task.sequence_end * kTokensPerBlock * task.head_dim * 4;
  const bool is_far = num_tiles == 1 || sequence_bytes > kFarBytes;
  QueryTile tiles[kTaskTiles];
  alignas(64) unsigned char packed[kTaskTiles * kPackedBytes];
  for (int64_t t = 0; t < num_tiles; ++t) {
    load_tile(task, t * kTile, tiles[t]);
    pack_queries(task, tiles[t], packed + t * kPackedBytes);
  }
  TileWalk<Tiles> walk(task);
  Group groups[2];  // of the steps under way
  int64_t index = task.begin;
  for (int turn = 0; index < task.end;) {
    Group& group = groups[turn] = group_at(task, index);
    index += group.count;
    bool is_walked = false;
    TileStep step{.group = &group, .fetches = is_far};
    for (int64_t t = 0; t < num_tiles; ++t) {
      const Active active = active_in(tiles[t], group);
      const bool attends = active.begin < active.end;
      const bool is_alone = !attends || tiles[t].count < kTile;
      if (step.num_tiles == most || (step.num_tiles > 0 && is_alone)) {
        walk.add(step);
        step = {.group = &group};
      }
      if (!attends) continue;
      if (step.num_tiles == 0) {
        step.tiles = &tiles[t];
        step.packed = packed + t * kPackedBytes;
      }
      step.add_tile(attended(group, tiles[t], active));
      is_walked = true;
    }
    if (step.num_tiles > 0) walk.add(step);
    if (is_walked) turn ^= 1;
  }
  walk.finish();
  for (int64_t t = 0; t < num_tiles; ++t) store_maxima(tiles[t]);
}

}  // namespace
}  // namespace tidemill

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

#include "kernels/host/amx/attention_vectors.h"
#include "kernels/host/amx/tile_blocks.h"
#include "kernels/host/attention_loop.h"
#include "kernels/host/unroll.h"

namespace tidemill {
namespace {

constexpr int64_t kPairsPerTile = kTileHeight;  // of inputs, that a tile of keys holds
constexpr int64_t kSumColumn = 1;               // of a state's header, as attention_inner.h has it

// Values of the sums' column, as a tile.
struct Ones {
  alignas(64) unsigned char lines[kTileBytes];
};
constexpr Ones make_ones() {
  Ones ones{};
  for (int64_t pair = 0; pair < kPairsPerTile; ++pair) {
    unsigned char* two = ones.lines + pair * 64 + kSumColumn * 4;
    two[0] = two[2] = 0x80;  // 1 as bf16: 0x3f80
    two[1] = two[3] = 0x3f;
  }
  return ones;
}
constexpr Ones kOnes = make_ones();

// Blocks of a group that a task walks, one behind the other.
struct Group {
  int64_t position;  // the first block's first token's
  int64_t count;     // of blocks
  const unsigned char* keys[kGroupBlocks];
  const unsigned char* values[kGroupBlocks];
  const unsigned char* next_keys[kGroupBlocks];  // of as many blocks behind the group, or null

  int64_t position_of(int64_t block) const { return position + block * kTokensPerBlock; }
};

inline Group group_at(const AttentionTask& task, int64_t begin) {
  const int64_t next = (begin / kGroupBlocks + 1) * kGroupBlocks;
  const int64_t end = next < task.end ? next : task.end;
  Group group;
  group.position = begin * kTokensPerBlock;
  group.count = end - begin;
  for (int64_t b = 0; b < group.count; ++b) {
    const int64_t offset = task.block_ids[begin + b] * task.block_stride;
    const int64_t later = end + b;
    group.keys[b] = task.keys + offset;
    group.values[b] = task.values + offset;
    group.next_keys[b] =
        later < task.known_end ? task.keys + task.block_ids[later] * task.block_stride : nullptr;
  }
  return group;
}

// Which tile is what. Queries and keys of less than 32 dims, at the end of a head, have their own.
constexpr int kSumTiles = 4;   // 0 to 3: scores of two blocks, or four columns of values
constexpr int kInputTile = 4;  // queries or probabilities
constexpr int kBlockTile = 5;  // keys or values
constexpr int kLastQueryTile = 6;
constexpr int kLastKeyTile = 7;

inline TileShapes attention_shapes(int64_t num_queries, int64_t head_dim) {
  TileShapes shapes{};
  shapes.palette = 1;
  for (int tile = 0; tile < kSumTiles; ++tile) set_shape(shapes, tile, num_queries, 64);
  set_shape(shapes, kInputTile, num_queries, 64);
  set_shape(shapes, kBlockTile, kTileHeight, 64);
  const int64_t last_pairs = (head_dim + 1) / 2 % kPairsPerTile;
  if (last_pairs == 0) return shapes;
  set_shape(shapes, kLastQueryTile, num_queries, last_pairs * 4);
  set_shape(shapes, kLastKeyTile, last_pairs, 64);
  return shapes;
}

// A tile of queries and the blocks of a group that it walks.
struct TileStep {
  QueryTile* tile = nullptr;
  const unsigned char* packed = nullptr;  // the tile's queries: [query][packed_stride]
  const Group* group = nullptr;
  int64_t begin = 0, end = 0;  // of the group's blocks
  bool fetches = false;        // it is the first to read them
};

inline int64_t packed_stride(int64_t head_dim) { return (head_dim * 2 + 63) / 64 * 64; }

inline void pack_queries(const AttentionTask& task, const QueryTile& tile, unsigned char* packed) {
  const int64_t words = (task.head_dim + 1) / 2;
  for (int64_t i = 0; i < tile.count; ++i, packed += packed_stride(task.head_dim)) {
    const auto* q = static_cast<const int32_t*>(tile.q[i]);
    for (int64_t w = 0; w < words; w += 16) {
      const auto some = static_cast<__mmask16>(words - w < 16 ? (1 << (words - w)) - 1 : 0xffff);
      _mm512_store_si512(packed + w * 4, _mm512_maskz_loadu_epi32(some, q + w));
    }
  }
}

// Lines that are wanted in L2, to be asked for little by little: in a burst they would hold up
// everything else. A line of each run in turn: memory gives several streams more than one.
class LineQueue {
 public:
  void clear() { num_runs_ = run_ = 0, line_ = num_lines_ = 0; }
  int64_t num_lines() const { return num_lines_; }

  // Null: nothing.
  void add(const unsigned char* from, int64_t num_lines) {
    if (from == nullptr) return;
    runs_[num_runs_++] = {from, num_lines};
    num_lines_ += num_lines;
  }

  void fetch(int64_t num_lines) {
    if (num_lines > num_lines_) num_lines = num_lines_;
    num_lines_ -= num_lines;
    while (num_lines > 0) {
      const Run& run = runs_[run_];
      if (line_ < run.num_lines) {
        prefetch(run.from + line_ * 64);
        --num_lines;
      }
      if (++run_ == num_runs_) {
        run_ = 0;
        ++line_;
      }
    }
  }

 private:
  struct Run {
    const unsigned char* from;
    int64_t num_lines;
  };
  Run runs_[2 * kGroupBlocks];
  int64_t num_runs_ = 0;
  int64_t run_ = 0, line_ = 0;  // what is next
  int64_t num_lines_ = 0;       // that were not asked for
};

// The steps of a task in order, three at once: between parts of the work on one's probabilities,
// portions of the next one's scores and of the values of the one before are multiplied. So no tile
// is loaded from what has just been stored: 0.8 of the time of one step after the other. (Portions
// are too long for tiles and vector unit to work at once: that would take a product of tiles for
// every twenty instructions of the other.)
template <typename Tiles>
class TileWalk {
 public:
  explicit TileWalk(const AttentionTask& task)
      : task_(task), columns_(1 + padded_head_dim(task.head_dim) / 16) {}

  void add(const TileStep& step) {
    if (shaped_for_ != step.tile->count) {
      finish();
      shaped_for_ = step.tile->count;
      tiles_.configure(attention_shapes(shaped_for_, task_.head_dim));
      for (auto& slot : scores_) {  // rows without a query are read, too
        for (int64_t i = shaped_for_ * kTokens; i < kTile * kTokens; ++i) slot[i] = 0.0f;
      }
    }
    advance(step);
  }

  // Nothing is under way any more.
  void finish() {
    while (scored_.tile != nullptr || rounded_.tile != nullptr) advance({});
  }

 private:
  static constexpr int64_t kTokens = kGroupBlocks * kTokensPerBlock;
  static constexpr int64_t kBlocksAtOnce = 2;
  static constexpr int64_t kColumnsAtOnce = 2;

  void advance(const TileStep& step) {
    turn_ ^= 1;
    scoring_ = step;
    next_block_ = step.begin;
    next_column_ = 0;
    const int64_t num_portions = (step.end - step.begin + kBlocksAtOnce - 1) / kBlocksAtOnce +
                                 (num_columns() + kColumnsAtOnce - 1) / kColumnsAtOnce;
    const int64_t num_blocks = scored_.end - scored_.begin;
    fetch_for(step);
    int64_t done = 0;
    const auto multiply_until = [&](int64_t part) {  // parts 0 .. num_blocks of the other work
      for (; done * (num_blocks + 1) < num_portions * (part + 1); ++done) multiply_a_portion();
    };
    multiply_until(0);
    if (scored_.tile != nullptr) {
      // Of a decode as many queries as heads share a key.
      if (scored_.tile->count <= 4) {
        round_step<4>(multiply_until);
      } else if (scored_.tile->count <= 8) {
        round_step<8>(multiply_until);
      } else {
        round_step<kTile>(multiply_until);
      }
    }
    fetching_.fetch(INT64_MAX);
    rounded_ = scored_;
    scored_ = step;
  }

  // What the next steps read: the keys of the group behind, and then this one's values.
  void fetch_for(const TileStep& step) {
    fetching_.clear();
    if (step.fetches) {
      const int64_t key_lines = (task_.head_dim + 1) / 2 * 2;
      for (int64_t b = 0; b < step.group->count; ++b) {
        fetching_.add(step.group->next_keys[b], key_lines);
      }
      for (int64_t b = step.begin; b < step.end; ++b) {
        fetching_.add(step.group->values[b], padded_head_dim(task_.head_dim));
      }
    }
    const int64_t loads_per_block = (task_.head_dim + 31) / 32 * 2;
    const int64_t num_loads =
        (step.end - step.begin) * loads_per_block + (rounded_.end - rounded_.begin) * num_columns();
    lines_per_load_ = num_loads == 0 ? 0 : (fetching_.num_lines() + num_loads - 1) / num_loads;
  }

  int64_t num_columns() const { return rounded_.tile == nullptr ? 0 : columns_; }

  void multiply_a_portion() {
    if (next_block_ < scoring_.end) {
      const int64_t left = scoring_.end - next_block_;
      if (left >= kBlocksAtOnce) {
        multiply_keys<kBlocksAtOnce>();
      } else {
        multiply_keys<1>();
      }
    } else if (columns_ - next_column_ >= kColumnsAtOnce) {
      add_columns<kColumnsAtOnce>();
    } else {
      add_columns<1>();
    }
  }

  // 32 dims of queries times those of kBlocks blocks' keys, or what a head's last dims are.
  template <int kBlocks, int kQ, int kK>
  void multiply_dims(const unsigned char* q, const unsigned char* const* keys, int64_t offset,
                     int64_t half_bytes) {
    tiles_.template load<kQ>(q, packed_stride(task_.head_dim));
    each<0, kBlocks * 2>([&](auto c) {
      tiles_.template load<kK>(keys[c.value / 2] + offset + c.value % 2 * half_bytes, 64);
      fetching_.fetch(lines_per_load_);
      tiles_.template dot_bf16<c.value, kQ, kK>();
      tiles_.template zero<kK>();
    });
    tiles_.template zero<kQ>();
  }

  // Scores of the next blocks, not yet scaled: [query][token of the group].
  template <int kBlocks>
  void multiply_keys() {
    const int64_t pairs = (task_.head_dim + 1) / 2;
    const int64_t half_bytes = pairs * 64;
    const unsigned char* const* keys = scoring_.group->keys + next_block_;
    each<0, kBlocks * 2>([&](auto c) { tiles_.template zero<c.value>(); });
    int64_t pair = 0;
    for (; pair + kPairsPerTile <= pairs; pair += kPairsPerTile) {
      multiply_dims<kBlocks, kInputTile, kBlockTile>(scoring_.packed + pair * 4, keys, pair * 64,
                                                     half_bytes);
    }
    if (pair < pairs) {
      multiply_dims<kBlocks, kLastQueryTile, kLastKeyTile>(scoring_.packed + pair * 4, keys,
                                                           pair * 64, half_bytes);
    }
    float* scores = scores_[turn_] + next_block_ * kTokensPerBlock;
    each<0, kBlocks * 2>(
        [&](auto c) { tiles_.template store<c.value>(scores + c.value * 16, kTokens * 4); });
    next_block_ += kBlocks;
  }

  // The next columns of all states; column 0 is that of the sums.
  template <int kColumns>
  void add_columns() {
    const TileStep& step = rounded_;
    const int64_t stride = step.tile->stride * 4;
    float* states = step.tile->states + next_column_ * 16;
    each<0, kColumns>(
        [&](auto c) { tiles_.template load<c.value>(states + c.value * 16, stride); });
    for (int64_t b = step.begin; b < step.end; ++b) {
      tiles_.template load<kInputTile>(probabilities_[turn_] + b * kTileBytes, 64);
      each<0, kColumns>([&](auto c) {
        const int64_t values = next_column_ + c.value - 1;
        tiles_.template load<kBlockTile>(
            values < 0 ? kOnes.lines : step.group->values[b] + values * kTileBytes, 64);
        fetching_.fetch(lines_per_load_);
        tiles_.template dot_bf16<c.value, kInputTile, kBlockTile>();
        tiles_.template zero<kBlockTile>();
      });
      tiles_.template zero<kInputTile>();
    }
    each<0, kColumns>([&](auto c) {
      tiles_.template store<c.value>(states + c.value * 16, stride);
      tiles_.template zero<c.value>();
    });
    next_column_ += kColumns;
  }

  // Whether some of the tile's queries do not attend to all of a block.
  static bool is_masked(const TileStep& step, int64_t block) {
    const QueryTile& tile = *step.tile;
    const int64_t position = step.group->position_of(block);
    return tile.first[tile.count - 1] > position || tile.last[0] < position + kTokensPerBlock - 1;
  }

  template <bool kMasks>
  static __mmask16 outside_of(const TileStep& step, int64_t block, int query, int half) {
    if constexpr (!kMasks) return 0;
    return outside(step.group->position_of(block) + half * 16, step.tile->first[query],
                   step.tile->last[query]);
  }

  // Of the step whose scores are made.
  __m512 raw_at(int64_t block, int query, int half) const {
    return _mm512_load_ps(scores_[turn_ ^ 1] + query * kTokens + block * kTokensPerBlock +
                          half * 16);
  }

  template <int kRows, bool kMasks>
  void add_maxima(int64_t block, __m512 (&largest)[16]) const {
    TIDEMILL_UNROLL_16
    for (int i = 0; i < kRows; ++i) {
      const __m512 first =
          masked_to(kMasked, outside_of<kMasks>(scored_, block, i, 0), raw_at(block, i, 0));
      const __m512 second =
          masked_to(kMasked, outside_of<kMasks>(scored_, block, i, 1), raw_at(block, i, 1));
      largest[i] = _mm512_max_ps(largest[i], _mm512_max_ps(first, second));
    }
  }

  template <int kRows, bool kMasks>
  void round_block(int64_t block, const float* shifts) {
    const __m512 unit = _mm512_set1_ps(task_.scale * kLog2OfE);
    unsigned char* out = probabilities_[turn_ ^ 1] + block * kTileBytes;
    TIDEMILL_UNROLL_16
    for (int i = 0; i < kRows; ++i) {
      const __m512 shift = _mm512_set1_ps(shifts[i]);
      __m512 p[2];
      TIDEMILL_UNROLL
      for (int half = 0; half < 2; ++half) {
        const __m512 x = _mm512_fmsub_ps(raw_at(block, i, half), unit, shift);
        p[half] = masked_to(0.0f, outside_of<kMasks>(scored_, block, i, half), power_of_two(x));
      }
      _mm512_store_si512(out + i * 64, rounded(p[0], p[1]));
    }
  }

  // Maxima, what they multiply states by, and probabilities: a tile for each block.
  template <int kRows, typename MultiplyUntil>
  void round_step(const MultiplyUntil& multiply_until) {
    const TileStep& step = scored_;
    QueryTile& tile = *step.tile;
    __m512 largest[16];
    TIDEMILL_UNROLL_16
    for (int i = 0; i < 16; ++i) largest[i] = _mm512_set1_ps(kMasked);
    for (int64_t b = step.begin; b < step.end; ++b) {
      if (is_masked(step, b)) {
        add_maxima<kRows, true>(b, largest);
      } else {
        add_maxima<kRows, false>(b, largest);
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
    for (int64_t b = step.begin; b < step.end; ++b) {
      multiply_until(b - step.begin + 1);
      if (is_masked(step, b)) {
        round_block<kRows, true>(b, shifts);
      } else {
        round_block<kRows, false>(b, shifts);
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
  const int64_t columns_;  // of states
  Tiles tiles_;
  int64_t shaped_for_ = 0;  // queries; 0: tiles have no shapes yet
  TileStep scoring_;        // scores are being made, in their slot of this turn
  TileStep scored_;         // probabilities are being made of the last turn's
  TileStep rounded_;        // values are being added with probabilities in their slot of this turn
  LineQueue fetching_;
  int64_t lines_per_load_ = 0;
  int turn_ = 0;
  int64_t next_block_ = 0, next_column_ = 0;  // of tiles' work in this turn
  alignas(64) float scores_[2][kTile * kTokens];
  alignas(64) unsigned char probabilities_[2][kGroupBlocks * kTileBytes];
};

// The sums are where they belong already.
inline void store_maxima(const QueryTile& tile) {
  for (int64_t i = 0; i < tile.count; ++i) tile.states[i * tile.stride] = tile.max[i];
}

template <typename Tiles>
void attend_on_tiles(const AttentionTask& task) {
  const int64_t num_tiles = (task.num_queries + kTile - 1) / kTile;
  QueryTile tiles[kTaskTiles];
  bool is_packed[kTaskTiles] = {};
  alignas(64) unsigned char packed[kTaskTiles][kTile * kMaxHeadDim * 2];
  TileWalk<Tiles> walk(task);
  Group groups[3];  // of the steps under way
  for (int64_t t = 0; t < num_tiles; ++t) load_tile(task, t * kTile, tiles[t]);
  int64_t index = task.begin;
  for (int turn = 0; index < task.end;) {
    Group& group = groups[turn] = group_at(task, index);
    index += group.count;
    bool fetches = true;
    for (int64_t t = 0; t < num_tiles; ++t) {
      QueryTile& tile = tiles[t];
      const Active active = active_in(tile, group.position, group.count * kTokensPerBlock);
      if (active.begin == active.end) continue;
      if (!is_packed[t]) pack_queries(task, tile, packed[t]);
      is_packed[t] = true;
      TileStep step{.tile = &tile, .packed = packed[t], .group = &group, .fetches = fetches};
      step.end = group.count;
      while (group.position_of(step.begin + 1) <= tile.first[0]) ++step.begin;
      while (group.position_of(step.end - 1) > tile.last[tile.count - 1]) --step.end;
      walk.add(step);
      fetches = false;
    }
    if (!fetches) turn = (turn + 1) % 3;
  }
  walk.finish();
  for (int64_t t = 0; t < num_tiles; ++t) store_maxima(tiles[t]);
}

}  // namespace
}  // namespace tidemill

// Attention over a bf16 cache with VDPBF16PS: pairs of dims against a row of 16 keys (or of 16
// queries), pairs of probabilities against a row of 16 dims.
//
// What differs from attention_loop.h: the maximum grows by groups of blocks, so that what a softmax
// waits for is waited for once in 128 keys, and sums of values stay in registers for as long; and
// the probabilities that a query's sum adds are those that meet values, of bf16. There are the same
// two ways to walk, rows and tiles, and both add in the same order.
#include "kernels/host/attention_groups.h"
#include "kernels/host/attention_vectors_avx512.h"
#include "kernels/host/unroll.h"
#include "kernels/host/vector_avx512.h"

namespace tidemill::avx512bf16 {
namespace {

constexpr int kRowsAtOnce = 4;          // eight chains and more: VDPBF16PS takes some six cycles
constexpr int64_t kMaxRowQueries = 10;  // of a tile; more take the way of tiles
constexpr int64_t kBlockPairs = kTokensPerBlock / 2;
constexpr int64_t kGroupPairs = kGroupTokens / 2;
constexpr int64_t kColumnBytes = kBlockPairs * 64;  // of 16 dims of a block's values

const int32_t* words_of(const void* data) { return static_cast<const int32_t*>(data); }
__m512bh broadcast(int32_t pair) { return (__m512bh)_mm512_set1_epi32(pair); }
__m512bh load(const void* line) { return (__m512bh)_mm512_loadu_si512(line); }

// What probabilities of bf16 are as floats: of the even token of a pair, and of the odd one.
__m512 even_of(__m512i pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)); }
__m512 odd_of(__m512i pairs) {
  return _mm512_castsi512_ps(
      _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}

// What waits for memory asks for lines up to three times while others are met: four blocks ahead,
// half of that, and a few lines; bytes from the line at hand. An EPYC (Zen 4) forgets what it is
// asked for while it waits for as much as it can, which happens wherever a loop is faster than
// memory: one wish for each line brought 0.68 of a plain read in its faster moments, these bring
// 0.86 (heads of 64, three to a key).
template <bool kFetches>
[[gnu::always_inline]] inline void fetch(const unsigned char* line, int64_t far, int64_t half,
                                         int64_t near) {
  if constexpr (!kFetches) return;
  prefetch(line + far);
  prefetch(line + half);
  prefetch(line + near);
}

// A group as one tile of queries walks it.
struct Walk {
  const AttentionTask& task;
  const Group& group;
  GroupBlocks blocks;
  Active active;
  bool fetches;  // it is the first to read the group

  int64_t pairs() const { return (task.head_dim + 1) / 2; }
  int64_t to_values() const { return task.values - task.keys; }
  // From a block's lines to those of the fourth behind it, in this task or the next; behind a task
  // that begins with less, of as many as it has. 0: not known.
  int64_t ahead(int64_t block) const {
    const int64_t index = group.position / kTokensPerBlock;
    const int64_t distance = index == task.begin ? group.count : kGroupBlocks;
    const unsigned char* next = keys_ahead(task, index + block + distance);
    return next == nullptr ? 0 : next - group.keys[block];
  }
};

// Maxima that have grown, and what that multiplies: a factor of one leaves a state as it is.
void scale_state(float factor, int64_t query, QueryTile& tile) {
  if (factor == 1.0f) return;
  tile.sum[query] *= factor;
  float* values = tile.values(query);
  for (int64_t d = 0; d < tile.stride - kStateHeader; d += 16) {
    _mm512_store_ps(values + d, _mm512_mul_ps(_mm512_load_ps(values + d), _mm512_set1_ps(factor)));
  }
}

// Where the pair of probabilities of a query and a step of a group's tokens lies, in words.
struct InRows {
  static constexpr int64_t at(int64_t query, int64_t pair) { return query * kGroupPairs + pair; }
};
struct InTile {
  static constexpr int64_t at(int64_t query, int64_t pair) { return pair * kTile + query; }
};

// kQueries by kColumns columns of 16 dims, from `d` on, over all blocks. The words are those of the
// first of the queries.
template <typename Place, int kQueries, int kColumns, bool kFetches>
void add_columns(const Walk& walk, const int32_t* words, int64_t query, int64_t d,
                 QueryTile& tile) {
  __m512 sums[kQueries][kColumns];
  TIDEMILL_UNROLL_16
  for (int i = 0; i < kQueries * kColumns; ++i) {
    sums[i / kColumns][i % kColumns] =
        _mm512_load_ps(tile.values(query + i / kColumns) + d + i % kColumns * 16);
  }
  for (int64_t block = walk.blocks.begin; block < walk.blocks.end; ++block) {
    const unsigned char* values = walk.group.values[block] + d / 16 * kColumnBytes;
    const int64_t far = walk.ahead(block);
    for (int64_t pair = 0; pair < kBlockPairs; ++pair) {
      __m512bh column[kColumns];
      TIDEMILL_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        const unsigned char* line = values + c * kColumnBytes + pair * 64;
        fetch<kFetches>(line, far, far - walk.to_values(), kColumnBytes / 2);
        column[c] = load(line);
      }
      TIDEMILL_UNROLL
      for (int q = 0; q < kQueries; ++q) {
        const __m512bh x = broadcast(words[Place::at(q, block * kBlockPairs + pair)]);
        TIDEMILL_UNROLL
        for (int c = 0; c < kColumns; ++c) {
          sums[q][c] = _mm512_dpbf16_ps(sums[q][c], x, column[c]);
        }
      }
    }
  }
  TIDEMILL_UNROLL_16
  for (int i = 0; i < kQueries * kColumns; ++i) {
    _mm512_store_ps(tile.values(query + i / kColumns) + d + i % kColumns * 16,
                    sums[i / kColumns][i % kColumns]);
  }
}

// Queries query .. end, as many as kQueries at a time, the first of which may fetch.
template <typename Place, int kQueries, int kColumns, bool kFetches>
void add_queries(const Walk& walk, const int32_t* words, int64_t query, int64_t end, int64_t d,
                 QueryTile& tile) {
  if (query + kQueries <= end) {
    add_columns<Place, kQueries, kColumns, kFetches>(walk, words, query, d, tile);
    words += Place::at(kQueries, 0);
    query += kQueries;
    for (; query + kQueries <= end; query += kQueries, words += Place::at(kQueries, 0)) {
      add_columns<Place, kQueries, kColumns, false>(walk, words, query, d, tile);
    }
    if constexpr (kQueries > 1) {
      add_queries<Place, kQueries - 1, kColumns, false>(walk, words, query, end, d, tile);
    }
  } else if constexpr (kQueries > 1) {
    add_queries<Place, kQueries - 1, kColumns, kFetches>(walk, words, query, end, d, tile);
  }
}

// Four columns at a time: with four queries sixteen chains, which hide what a product takes.
template <typename Place, int kQueries, bool kFetches>
void add_all_columns(const Walk& walk, const int32_t* words, int64_t query, int64_t end,
                     QueryTile& tile) {
  const int64_t padded_dim = tile.stride - kStateHeader;
  int64_t d = 0;
  for (; d + 64 <= padded_dim; d += 64) {
    add_queries<Place, kQueries, 4, kFetches>(walk, words, query, end, d, tile);
  }
  for (; d < padded_dim; d += 16) {
    add_queries<Place, kQueries, 1, kFetches>(walk, words, query, end, d, tile);
  }
}

// Rows: a query's scores lie side by side. K: two halves of [head_dim / 2 pairs][16 tokens][2].
// Lines of several blocks in turn: memory gives several streams more than one.
template <int kRows, int kBlocks, bool kFetches>
void row_scores(const Walk& walk, const void* const* q, int64_t block,
                float (*scores)[kGroupTokens]) {
  const int64_t pairs = walk.pairs();
  const unsigned char* run[kBlocks];
  int64_t far[kBlocks];
  TIDEMILL_UNROLL
  for (int b = 0; b < kBlocks; ++b) {
    run[b] = walk.group.keys[block + b];
    far[b] = walk.ahead(block + b);
  }
  __m512 sums[kRows][kBlocks][2];
  TIDEMILL_UNROLL_16
  for (int i = 0; i < kRows * kBlocks; ++i) {
    sums[i / kBlocks][i % kBlocks][0] = _mm512_setzero_ps();
    sums[i / kBlocks][i % kBlocks][1] = _mm512_setzero_ps();
  }
  for (int64_t pair = 0; pair < pairs; ++pair) {
    __m512bh x[kRows];
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) x[r] = broadcast(words_of(q[r])[pair]);
    TIDEMILL_UNROLL
    for (int b = 0; b < kBlocks; ++b) {
      TIDEMILL_UNROLL
      for (int half = 0; half < 2; ++half) {
        const unsigned char* line = run[b] + (half * pairs + pair) * 64;
        fetch<kFetches>(line, far[b], walk.to_values(), 1024);
        const __m512bh keys = load(line);
        TIDEMILL_UNROLL
        for (int r = 0; r < kRows; ++r) {
          sums[r][b][half] = _mm512_dpbf16_ps(sums[r][b][half], x[r], keys);
        }
      }
    }
  }
  TIDEMILL_UNROLL_16
  for (int i = 0; i < kRows * kBlocks; ++i) {
    float* out = scores[i / kBlocks] + (block + i % kBlocks) * kTokensPerBlock;
    _mm512_store_ps(out, sums[i / kBlocks][i % kBlocks][0]);
    _mm512_store_ps(out + 16, sums[i / kBlocks][i % kBlocks][1]);
  }
}

template <int kRows, bool kFetches>
void group_scores(const Walk& walk, const void* const* q, float (*scores)[kGroupTokens]) {
  constexpr int kBlocks = kRows <= 3 ? 4 : 2;
  int64_t block = walk.blocks.begin;
  for (; block + kBlocks <= walk.blocks.end; block += kBlocks) {
    row_scores<kRows, kBlocks, kFetches>(walk, q, block, scores);
  }
  for (; block < walk.blocks.end; ++block) row_scores<kRows, 1, kFetches>(walk, q, block, scores);
}

template <bool kMasks>
__mmask16 outside_of(const Walk& walk, const QueryTile& tile, int64_t query, int64_t token) {
  if constexpr (!kMasks) return 0;
  return outside(walk.group.position + token, tile.first[query], tile.last[query]);
}

// Scores of rows become pairs of probabilities.
template <int kRows, bool kMasks>
void round_rows(const Walk& walk, int64_t query, const float (*scores)[kGroupTokens],
                int32_t (*words)[kGroupPairs], QueryTile& tile) {
  const int64_t begin = walk.blocks.begin * kTokensPerBlock;
  const int64_t end = walk.blocks.end * kTokensPerBlock;
  __m512 largest[kRows];
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) largest[r] = _mm512_set1_ps(kMasked);
  for (int64_t t = begin; t < end; t += 16) {
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const __mmask16 others = outside_of<kMasks>(walk, tile, query + r, t);
      largest[r] =
          _mm512_max_ps(largest[r], masked_to(kMasked, others, _mm512_load_ps(scores[r] + t)));
    }
  }
  __m512 shift[kRows], sum[kRows];
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const float old_max = tile.max[query + r];
    const float group_max = max512(largest[r]) * walk.task.scale;
    const float max = group_max > old_max ? group_max : old_max;
    tile.factor[query + r] = max == old_max ? 1.0f : power_of_two_one((old_max - max) * kLog2OfE);
    tile.max[query + r] = max;
    shift[r] = _mm512_set1_ps(max * kLog2OfE);
    sum[r] = _mm512_setzero_ps();
  }
  const __m512 unit = _mm512_set1_ps(walk.task.scale * kLog2OfE);
  for (int64_t t = begin; t < end; t += kTokensPerBlock) {
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      __m512 p[2];
      TIDEMILL_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int64_t token = t + half * 16;
        const __m512 x = _mm512_fmsub_ps(_mm512_load_ps(scores[r] + token), unit, shift[r]);
        p[half] =
            masked_to(0.0f, outside_of<kMasks>(walk, tile, query + r, token), power_to_cut(x));
        sum[r] = _mm512_add_ps(sum[r], odd_of(_mm512_castps_si512(p[half])));
      }
      _mm512_store_si512(words[r] + t / 2, upper_halves(p[0], p[1]));
    }
  }
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    scale_state(tile.factor[query + r], query + r, tile);
    tile.sum[query + r] += sum512(sum[r]);
  }
}

template <int kRows, bool kFetches>
void add_rows(const Walk& walk, int64_t query, QueryTile& tile) {
  alignas(64) float scores[kRows][kGroupTokens];
  alignas(64) int32_t words[kRows][kGroupPairs];
  group_scores<kRows, kFetches>(walk, tile.q + query, scores);
  walk.active.masked ? round_rows<kRows, true>(walk, query, scores, words, tile)
                     : round_rows<kRows, false>(walk, query, scores, words, tile);
  add_all_columns<InRows, kRows, kFetches>(walk, words[0], query, query + kRows, tile);
}

// Queries query .. end of the walk; the first of them fetch if it does.
template <int kRows>
void add_rows_of(const Walk& walk, int64_t query, bool fetches, QueryTile& tile) {
  for (; query + kRows <= walk.active.end; query += kRows, fetches = false) {
    fetches ? add_rows<kRows, true>(walk, query, tile) : add_rows<kRows, false>(walk, query, tile);
  }
  if constexpr (kRows > 1) {
    if (query < walk.active.end) add_rows_of<kRows - 1>(walk, query, fetches, tile);
  }
}

// Tiles: 16 queries, one to a vector element. Packed: [pair][query][2].
constexpr int64_t kPackedWords = kTile * kMaxHeadDim / 2;

void pack(const AttentionTask& task, const QueryTile& tile, int32_t* packed) {
  const int64_t pairs = (task.head_dim + 1) / 2;
  const int32_t* q[kTile];
  for (int64_t i = 0; i < kTile; ++i) q[i] = words_of(tile.q[i < tile.count ? i : 0]);
  int64_t pair = 0;
  static_assert(kTile == 16);
  for (; pair + 16 <= pairs; pair += 16) {
    __m512i words[16];
    TIDEMILL_UNROLL_16
    for (int i = 0; i < 16; ++i) words[i] = _mm512_loadu_si512(q[i] + pair);
    transpose512(words);
    TIDEMILL_UNROLL_16
    for (int i = 0; i < 16; ++i) _mm512_store_si512(packed + (pair + i) * kTile, words[i]);
  }
  for (; pair < pairs; ++pair) {
    for (int64_t i = 0; i < kTile; ++i) packed[pair * kTile + i] = q[i][pair];
  }
}

// scores: [token][query]
void tile_scores(const Walk& walk, const int32_t* packed, int64_t block, float* scores) {
  const int64_t pairs = walk.pairs();
  const int64_t ahead = walk.fetches ? walk.ahead(block) : 0;
  for (int half = 0; half < 2; ++half) {
    const unsigned char* keys = walk.group.keys[block] + half * pairs * 64;
    const int32_t* q = packed;
    __m512 sums[16];
    TIDEMILL_UNROLL_16
    for (int t = 0; t < 16; ++t) sums[t] = _mm512_setzero_ps();
    for (int64_t pair = 0; pair < pairs; ++pair, keys += 64, q += kTile) {
      prefetch(keys + ahead);
      const __m512bh queries = load(q);
      TIDEMILL_UNROLL_16
      for (int t = 0; t < 16; ++t) {
        sums[t] = _mm512_dpbf16_ps(sums[t], queries, broadcast(words_of(keys)[t]));
      }
    }
    float* out = scores + (block * kTokensPerBlock + half * 16) * kTile;
    TIDEMILL_UNROLL_16
    for (int t = 0; t < 16; ++t) _mm512_store_ps(out + t * kTile, sums[t]);
  }
}

// Which queries do not attend to a token.
template <bool kMasks>
__mmask16 strangers_to(const QueryTile& tile, int64_t position) {
  if constexpr (!kMasks) return 0;
  const __m512i at = _mm512_set1_epi32(static_cast<int32_t>(position));
  return _mm512_cmplt_epi32_mask(at, _mm512_load_si512(tile.first)) |
         _mm512_cmpgt_epi32_mask(at, _mm512_load_si512(tile.last));
}

template <bool kMasks>
void add_maxima(const QueryTile& tile, int64_t position, const float* scores,
                __m512 (&largest)[4]) {
  for (int64_t t = 0; t < kTokensPerBlock; t += 4) {
    TIDEMILL_UNROLL
    for (int i = 0; i < 4; ++i) {
      const __mmask16 others = strangers_to<kMasks>(tile, position + t + i);
      largest[i] = _mm512_max_ps(
          largest[i], masked_to(kMasked, others, _mm512_load_ps(scores + (t + i) * kTile)));
    }
  }
}

// sums[t] adds the tokens t, t + 16 and so on of a group, as an element of a row's sum does.
template <bool kMasks>
void round_block(const QueryTile& tile, int64_t position, const float* scores, __m512 unit,
                 __m512 shift, int32_t* words, __m512 (&sums)[16]) {
  for (int half = 0; half < 2; ++half) {
    TIDEMILL_UNROLL_16
    for (int t = 0; t < 16; t += 2) {
      __m512 p[2];
      TIDEMILL_UNROLL
      for (int odd = 0; odd < 2; ++odd) {
        const int token = half * 16 + t + odd;
        const __m512 x = _mm512_fmsub_ps(_mm512_load_ps(scores + token * kTile), unit, shift);
        p[odd] = masked_to(0.0f, strangers_to<kMasks>(tile, position + token), power_to_cut(x));
      }
      const __m512i pairs = _mm512_mask_mov_epi16(_mm512_srli_epi32(_mm512_castps_si512(p[0]), 16),
                                                  0xaaaaaaaau, _mm512_castps_si512(p[1]));
      sums[t] = _mm512_add_ps(sums[t], even_of(pairs));
      sums[t + 1] = _mm512_add_ps(sums[t + 1], odd_of(pairs));
      _mm512_store_si512(words + (half * 16 + t) / 2 * kTile, pairs);
    }
  }
}

// The order of sum512.
__m512 folded(__m512 (&sums)[16]) {
  TIDEMILL_UNROLL
  for (int t = 0; t < 8; ++t) sums[t] = _mm512_add_ps(sums[t], sums[t + 8]);
  TIDEMILL_UNROLL
  for (int t = 0; t < 4; ++t) sums[t] = _mm512_add_ps(sums[t], sums[t + 4]);
  sums[0] = _mm512_add_ps(sums[0], sums[2]);
  sums[1] = _mm512_add_ps(sums[1], sums[3]);
  return _mm512_add_ps(sums[0], sums[1]);
}

// Scores of a tile become pairs of probabilities, [pair][query].
void round_tile(const Walk& walk, const float* scores, int32_t* words, QueryTile& tile) {
  __m512 largest[4], sums[16];
  TIDEMILL_UNROLL
  for (int i = 0; i < 4; ++i) largest[i] = _mm512_set1_ps(kMasked);
  for (int64_t b = walk.blocks.begin; b < walk.blocks.end; ++b) {
    const float* of_block = scores + b * kTokensPerBlock * kTile;
    is_masked(tile, walk.group.position_of(b))
        ? add_maxima<true>(tile, walk.group.position_of(b), of_block, largest)
        : add_maxima<false>(tile, walk.group.position_of(b), of_block, largest);
  }
  const __m512 of_group =
      _mm512_max_ps(_mm512_max_ps(largest[0], largest[1]), _mm512_max_ps(largest[2], largest[3]));
  const __m512 old_max = _mm512_load_ps(tile.max);
  const __m512 max =
      _mm512_max_ps(_mm512_mul_ps(of_group, _mm512_set1_ps(walk.task.scale)), old_max);
  const __m512 log2_of_e = _mm512_set1_ps(kLog2OfE);
  _mm512_store_ps(tile.factor, power_of_two(_mm512_mul_ps(_mm512_sub_ps(old_max, max), log2_of_e)));
  _mm512_store_ps(tile.max, max);
  for (int64_t q = walk.active.begin; q < walk.active.end; ++q) {
    scale_state(tile.factor[q], q, tile);
  }
  const __m512 unit = _mm512_set1_ps(walk.task.scale * kLog2OfE);
  const __m512 shift = _mm512_mul_ps(max, log2_of_e);
  TIDEMILL_UNROLL_16
  for (int t = 0; t < 16; ++t) sums[t] = _mm512_setzero_ps();
  for (int64_t b = walk.blocks.begin; b < walk.blocks.end; ++b) {
    const int64_t at = b * kTokensPerBlock * kTile;
    const int64_t position = walk.group.position_of(b);
    is_masked(tile, walk.group.position_of(b))
        ? round_block<true>(tile, position, scores + at, unit, shift, words + at / 2, sums)
        : round_block<false>(tile, position, scores + at, unit, shift, words + at / 2, sums);
  }
  _mm512_store_ps(tile.sum, _mm512_add_ps(_mm512_load_ps(tile.sum), folded(sums)));
}

void add_tile(const Walk& walk, const int32_t* packed, QueryTile& tile) {
  alignas(64) float scores[kGroupTokens * kTile];  // [token][query]
  alignas(64) int32_t words[kGroupPairs * kTile];  // [pair][query]
  for (int64_t b = walk.blocks.begin; b < walk.blocks.end; ++b) {
    tile_scores(walk, packed, b, scores);
  }
  round_tile(walk, scores, words, tile);
  const Active& active = walk.active;
  const int32_t* first = words + active.begin;
  walk.fetches ? add_all_columns<InTile, 4, true>(walk, first, active.begin, active.end, tile)
               : add_all_columns<InTile, 4, false>(walk, first, active.begin, active.end, tile);
}

}  // namespace

void attend_bf16(const AttentionTask& task) {
  const int64_t num_tiles = (task.num_queries + kTile - 1) / kTile;
  QueryTile tiles[kTaskTiles];
  bool is_packed[kTaskTiles] = {};
  alignas(64) int32_t packed[kTaskTiles][kPackedWords];
  for (int64_t t = 0; t < num_tiles; ++t) load_tile(task, t * kTile, tiles[t]);
  for (int64_t index = task.begin; index < task.end;) {
    const Group group = group_at(task, index);
    index += group.count;
    bool fetches = true;
    for (int64_t t = 0; t < num_tiles; ++t) {
      QueryTile& tile = tiles[t];
      const Active active = active_in(tile, group);
      if (active.begin == active.end) continue;
      const Walk walk{task, group, attended(group, tile, active), active, fetches};
      fetches = false;
      if (active.end - active.begin <= kMaxRowQueries) {
        add_rows_of<kRowsAtOnce>(walk, active.begin, walk.fetches, tile);
        continue;
      }
      if (!is_packed[t]) pack(task, tile, packed[t]);
      is_packed[t] = true;
      add_tile(walk, packed[t], tile);
    }
  }
  for (int64_t t = 0; t < num_tiles; ++t) store_tile(tiles[t]);
}

}  // namespace tidemill::avx512bf16

// What attention over a bf16 cache has in common where there are tiles, and the walk of few
// queries: AVX-512 for the products, too, in the order in which a tile adds (products.h), so that a
// query's bits do not depend on how many others walk the blocks with it. Many:
// amx/attention_loop.h.
//
// What differs from attention_loop.h of the folder above: the maximum grows by groups of blocks, so
// that sums stay in their tiles for so long; exp(x) is 2^(x log2(e)), the factor going into that of
// the scores; and the sum of probabilities is one more column of values, which are 1, so it adds
// what was rounded to bf16.
//
// In an unnamed namespace, as that header explains.
#pragma once

#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/amx/pair_sums.h"
#include "kernels/host/amx/tiles.h"
#include "kernels/host/attention_avx512_ops.h"
#include "kernels/host/unroll.h"

namespace tidemill {
namespace {

// Up to so many walk a group of blocks without tiles.
constexpr int kMaxRowQueries = 3;
constexpr int64_t kSumColumn = 1;  // of a state's header, as attention_inner.h has it

// 2^x, relative error below 3e-6 (a polynomial of 2^x - 1 over [0, 1), exact at 0); probabilities
// keep eight bits. Denormal results are zero, as a worker's MXCSR says.
inline __m512 power_of_two(__m512 x) {
  constexpr int kMinusFloor = 0x09;
  const __m512 r = _mm512_reduce_ps(x, kMinusFloor);
  __m512 p = _mm512_set1_ps(1.3426684e-2f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.2242474e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.4128020e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9304484e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, x);
}

inline float power_of_two(float x) { return _mm512_cvtss_f32(power_of_two(_mm512_set1_ps(x))); }

constexpr float kLog2OfE = 1.44269504f;

// 32 probabilities, zero or normal numbers, as bf16 in order.
inline __m512i rounded(__m512 first, __m512 second) {
  return (__m512i)_mm512_cvtne2ps_pbh(second, first);
}

// Element r: the largest of v[r].
inline __m512 max_of_each(__m512 (&v)[16]) {
  TIDEMILL_UNROLL
  for (int r = 0; r < 8; ++r) {
    v[r] = _mm512_max_ps(_mm512_shuffle_f32x4(v[r], v[r + 8], 0x44),
                         _mm512_shuffle_f32x4(v[r], v[r + 8], 0xee));
  }
  TIDEMILL_UNROLL
  for (int r = 0; r < 4; ++r) {
    v[r] = _mm512_max_ps(_mm512_shuffle_f32x4(v[r], v[r + 4], 0x88),
                         _mm512_shuffle_f32x4(v[r], v[r + 4], 0xdd));
  }
  TIDEMILL_UNROLL
  for (int r = 0; r < 2; ++r) {
    v[r] = _mm512_max_ps(_mm512_shuffle_ps(v[r], v[r + 2], 0x44),
                         _mm512_shuffle_ps(v[r], v[r + 2], 0xee));
  }
  const __m512 mixed =
      _mm512_max_ps(_mm512_shuffle_ps(v[0], v[1], 0x88), _mm512_shuffle_ps(v[0], v[1], 0xdd));
  // Its elements are those of rows 0 2 1 3, 8 10 9 11, 4 6 5 7, 12 14 13 15.
  return _mm512_permutexvar_ps(
      _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15), mixed);
}

// Which of 16 tokens a query does not attend to.
inline __mmask16 outside(int64_t position, int32_t first, int32_t last) {
  const __m512i at =
      _mm512_add_epi32(_mm512_set1_epi32(static_cast<int32_t>(position)),
                       _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  return _mm512_cmplt_epi32_mask(at, _mm512_set1_epi32(first)) |
         _mm512_cmpgt_epi32_mask(at, _mm512_set1_epi32(last));
}

inline __m512 masked_to(float value, __mmask16 some, __m512 v) {
  return _mm512_mask_mov_ps(v, some, _mm512_set1_ps(value));
}

// Blocks of a group that a task walks, one behind the other.
struct Group {
  int64_t position;  // the first block's first token's
  int64_t count;     // of blocks
  const unsigned char* keys[kGroupBlocks];
  const unsigned char* values[kGroupBlocks];
  const unsigned char* next_keys[kGroupBlocks];  // those to fetch while values are read; or null

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

// Lines that are wanted soon, one for each that is read.
inline void fetch(const unsigned char* from, int64_t line) {
  if (from != nullptr) prefetch(from + line * 64);
}

// Raw products of kRows queries with a block's keys: two halves of [head_dim / 2 pairs][16
// tokens][2].
template <int kRows>
void multiply_keys(const AttentionTask& task, const void* const* q, const unsigned char* keys,
                   const unsigned char* wanted, float (*scores)[kGroupBlocks * kTokensPerBlock],
                   int64_t column) {
  const int64_t pairs = (task.head_dim + 1) / 2;
  __m512 sums[kRows][2];
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
  for (int64_t first = 0; first < pairs; first += kPairsPerTile) {
    const int64_t end = pairs - first < kPairsPerTile ? pairs : first + kPairsPerTile;
    PairSums<kRows, 2> part;
    part.clear();
    for (int64_t pair = first; pair < end; ++pair) {
      fetch(wanted, pair);
      fetch(wanted, pairs + pair);
      int32_t x[kRows];
      pairs_at([&](int r) { return static_cast<const int32_t*>(q[r]); }, pair, x);
      part.add(x, [&](int half) { return _mm512_loadu_si512(keys + (half * pairs + pair) * 64); });
    }
    part.add_to(sums);
  }
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    _mm512_store_ps(scores[r] + column, sums[r][0]);
    _mm512_store_ps(scores[r] + column + 16, sums[r][1]);
  }
}

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

// Queries query .. query + kRows of a tile.
template <int kRows>
void add_rows_by_pairs(const AttentionTask& task, const Group& group, int64_t query,
                       QueryTile& tile) {
  constexpr int64_t kTokens = kGroupBlocks * kTokensPerBlock;
  alignas(64) float scores[kRows][kTokens];
  alignas(64) int32_t pairs[kRows][kTokens / 2];
  for (int64_t b = 0; b < group.count; ++b) {
    multiply_keys<kRows>(task, tile.q + query, group.keys[b], group.values[b], scores,
                         b * kTokensPerBlock);
  }
  const int64_t num_halves = group.count * 2;
  for (int r = 0; r < kRows; ++r) {
    const int64_t i = query + r;
    __mmask16 unseen[2 * kGroupBlocks];
    __m512 largest = _mm512_set1_ps(kMasked);
    for (int64_t h = 0; h < num_halves; ++h) {
      unseen[h] = outside(group.position + h * 16, tile.first[i], tile.last[i]);
      largest =
          _mm512_max_ps(largest, masked_to(kMasked, unseen[h], _mm512_load_ps(scores[r] + h * 16)));
    }
    const float group_max = max512(largest) * task.scale;
    const float max = group_max > tile.max[i] ? group_max : tile.max[i];
    tile.factor[i] = power_of_two((tile.max[i] - max) * kLog2OfE);
    tile.max[i] = max;
    const __m512 unit = _mm512_set1_ps(task.scale * kLog2OfE);
    const __m512 shift = _mm512_set1_ps(max * kLog2OfE);
    for (int64_t b = 0; b < group.count; ++b) {
      __m512 p[2];
      for (int half = 0; half < 2; ++half) {
        const __m512 raw = _mm512_load_ps(scores[r] + b * kTokensPerBlock + half * 16);
        p[half] =
            masked_to(0.0f, unseen[2 * b + half], power_of_two(_mm512_fmsub_ps(raw, unit, shift)));
      }
      _mm512_store_si512(pairs[r] + b * kPairsPerTile, rounded(p[0], p[1]));
    }
  }
  // `line(b, step)`: 16 pairs of values of the column.
  const auto add_column = [&](int64_t column, __mmask16 scaled, const auto& line) {
    __m512 sums[kRows][1];
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const __m512 before = _mm512_load_ps(tile.states + (query + r) * tile.stride + column * 16);
      const __m512 factor = _mm512_set1_ps(tile.factor[query + r]);
      sums[r][0] = _mm512_mask_mul_ps(before, scaled, before, factor);
    }
    for (int64_t b = 0; b < group.count; ++b) {
      PairSums<kRows, 1> part;
      part.clear();
      for (int64_t step = 0; step < kPairsPerTile; ++step) {
        int32_t x[kRows];
        pairs_at([&](int r) { return pairs[r]; }, b * kPairsPerTile + step, x);
        part.add(x, [&](int) { return line(b, step); });
      }
      part.add_to(sums);
    }
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      _mm512_store_ps(tile.states + (query + r) * tile.stride + column * 16, sums[r][0]);
    }
  };
  add_column(0, 1 << kSumColumn,
             [](int64_t, int64_t step) { return _mm512_load_si512(kOnes.lines + step * 64); });
  const int64_t columns = padded_head_dim(task.head_dim) / 16;
  for (int64_t column = 0; column < columns; ++column) {
    add_column(column + 1, 0xffff, [&](int64_t b, int64_t step) {
      const int64_t at = column * kPairsPerTile + step;
      fetch(group.next_keys[b], at);
      return _mm512_loadu_si512(group.values[b] + at * 64);
    });
  }
}

template <int kRows>
void add_rows_by_pairs(const AttentionTask& task, const Group& group, const Active& active,
                       QueryTile& tile) {
  if (active.end - active.begin == kRows) {
    add_rows_by_pairs<kRows>(task, group, active.begin, tile);
  } else if constexpr (kRows > 1) {
    add_rows_by_pairs<kRows - 1>(task, group, active, tile);
  }
}

}  // namespace
}  // namespace tidemill

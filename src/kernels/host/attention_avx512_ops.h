// What the AVX-512 attentions share: the softmax of a block's 32 scores, of one query side by side
// and of 16 queries one to an element; and the products of f32.
#pragma once

#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/attention_loop.h"
#include "kernels/host/unroll.h"
#include "kernels/host/vector_avx512.h"

namespace tidemill {
namespace {

struct SoftmaxOps512 {
  static float exp_one(float x) { return exp512_one(x); }

  static float max(const float* scores) {
    return max512(_mm512_max_ps(_mm512_load_ps(scores), _mm512_load_ps(scores + 16)));
  }

  // exp(score - max), which is not above zero; zero where masked. Half the multiplications of
  // exp512, and what it compares here waits for the same units (Zen 4).
  template <bool kMasks>
  static __m512 exponential(__m512 score, __m512 max) {
    // Of the masked, too, a number that times log2(e) is finite. What is none counts for nothing,
    // whether its neighbours in the tile are masked or not: the second of the two is what is left.
    const __m512 x = _mm512_max_ps(_mm512_sub_ps(score, max), _mm512_set1_ps(-1e3f));
    const __m512 e = power_of_two512(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)));
    if constexpr (!kMasks) return e;
    const __mmask16 seen = _mm512_cmp_ps_mask(score, _mm512_set1_ps(kMasked), _CMP_GT_OQ);
    return _mm512_maskz_mov_ps(seen, e);
  }

  // scores become their exponentials; their sum.
  static float exponentials(float* scores, float max) {
    __m512 sum = _mm512_setzero_ps();
    for (int half = 0; half < 2; ++half) {
      const __m512 e = exponential<true>(_mm512_load_ps(scores + half * 16), _mm512_set1_ps(max));
      _mm512_store_ps(scores + half * 16, e);
      sum = _mm512_add_ps(sum, e);
    }
    return sum512(sum);
  }

  // Two halves of 16 sums for each query, times `scale`.
  template <int kRows>
  static void store_scores(const __m512 (&sums)[kRows][2], float scale,
                           float (*scores)[kTokensPerBlock]) {
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      _mm512_store_ps(scores[r], _mm512_mul_ps(sums[r][0], _mm512_set1_ps(scale)));
      _mm512_store_ps(scores[r] + 16, _mm512_mul_ps(sums[r][1], _mm512_set1_ps(scale)));
    }
  }

  template <int kRows>
  static void round_scores(const float (*scores)[kTokensPerBlock],
                           uint16_t (*rounded)[kTokensPerBlock]) {
    for (int r = 0; r < kRows; ++r) {
      for (int half = 0; half < kTokensPerBlock; half += 16) {
        _mm256_store_si256(reinterpret_cast<__m256i*>(rounded[r] + half),
                           to_bf16_512(_mm512_load_ps(scores[r] + half)));
      }
    }
  }

  static __m512 scaled_values(const QueryTile& tile, int64_t query, int64_t d) {
    return _mm512_mul_ps(_mm512_load_ps(tile.values(query) + d),
                         _mm512_set1_ps(tile.factor[query]));
  }

  // A vector of values: total * old_factor + partition * new_factor; values / sum.
  static constexpr int64_t kFloats = 16;
  static void add_scaled(const float* partition, float new_factor, float old_factor, float* total) {
    const __m512 old_part = _mm512_mul_ps(_mm512_load_ps(total), _mm512_set1_ps(old_factor));
    const __m512 new_part = _mm512_mul_ps(_mm512_load_ps(partition), _mm512_set1_ps(new_factor));
    _mm512_store_ps(total, _mm512_add_ps(old_part, new_part));
  }
  static void divide(const float* values, float sum, float* out) {
    _mm512_store_ps(out, _mm512_div_ps(_mm512_load_ps(values), _mm512_set1_ps(sum)));
  }

  static void mask_tile(int64_t position, const QueryTile& tile, float* scores) {
    const __m512i first = _mm512_load_si512(tile.first);
    const __m512i last = _mm512_load_si512(tile.last);
    for (int64_t t = 0; t < kTokensPerBlock; ++t) {
      const __m512i at = _mm512_set1_epi32(static_cast<int32_t>(position + t));
      const __mmask16 outside =
          _mm512_cmplt_epi32_mask(at, first) | _mm512_cmpgt_epi32_mask(at, last);
      _mm512_mask_store_ps(scores + t * kTile, outside, _mm512_set1_ps(kMasked));
    }
  }

  // Halves meet halves, as in max512 and sum512: one order.
  static void tile_softmax(QueryTile& tile, bool masked, float* scores) {
    masked ? tile_softmax_of<true>(tile, scores) : tile_softmax_of<false>(tile, scores);
  }
  template <bool kMasks>
  static void tile_softmax_of(QueryTile& tile, float* scores) {
    __m512 tree[16];
    TIDEMILL_UNROLL_16
    for (int t = 0; t < 16; ++t) {
      tree[t] =
          _mm512_max_ps(_mm512_load_ps(scores + t * 16), _mm512_load_ps(scores + (t + 16) * 16));
    }
    fold(tree, [](__m512 a, __m512 b) { return _mm512_max_ps(a, b); });
    const __m512 old_max = _mm512_load_ps(tile.max);
    const __m512 max = _mm512_max_ps(tree[0], old_max);
    const __m512 factor = exp512(_mm512_sub_ps(old_max, max));
    for (int t = 0; t < kTokensPerBlock; ++t) {
      _mm512_store_ps(scores + t * 16, exponential<kMasks>(_mm512_load_ps(scores + t * 16), max));
    }
    TIDEMILL_UNROLL_16
    for (int t = 0; t < 16; ++t) {
      tree[t] =
          _mm512_add_ps(_mm512_load_ps(scores + t * 16), _mm512_load_ps(scores + (t + 16) * 16));
    }
    fold(tree, [](__m512 a, __m512 b) { return _mm512_add_ps(a, b); });
    const __m512 old_sum = _mm512_mul_ps(_mm512_load_ps(tile.sum), factor);
    _mm512_store_ps(tile.sum, _mm512_add_ps(old_sum, tree[0]));
    _mm512_store_ps(tile.max, max);
    _mm512_store_ps(tile.factor, factor);
  }

 private:
  template <typename Combine>
  static void fold(__m512 (&tree)[16], Combine combine) {
    TIDEMILL_UNROLL
    for (int t = 0; t < 8; ++t) tree[t] = combine(tree[t], tree[t + 8]);
    TIDEMILL_UNROLL
    for (int t = 0; t < 4; ++t) tree[t] = combine(tree[t], tree[t + 4]);
    tree[0] = combine(tree[0], tree[2]);
    tree[1] = combine(tree[1], tree[3]);
    tree[0] = combine(tree[0], tree[1]);
  }
};

// Where the probability (or pair of them) of a query and a step of tokens lies, in words of 32
// bits: of a tile, and of rows one behind the other.
struct InTile {
  static constexpr int kColumnsOfOne = 4;
  static constexpr int64_t at(int64_t query, int64_t step) { return step * kTile + query; }
};
template <typename Columns>
struct InRows {
  static constexpr int kColumnsOfOne = 1;  // a row alone waits for memory: in its order
  static constexpr int64_t at(int64_t query, int64_t step) {
    return query * Columns::kSteps + step;
  }
};

// Values meet probabilities by columns of 16 dims; `Columns` says how one step of tokens is
// multiplied. Up to four queries by up to four columns: sixteen chains hide what a product takes.
template <typename Columns, typename Place, int kQueries, int kColumns>
void add_columns(const unsigned char* values, int64_t ahead, const int32_t* probabilities,
                 int64_t query, int64_t d, QueryTile& tile) {
  __m512 sums[kQueries][kColumns];
  TIDEMILL_UNROLL
  for (int q = 0; q < kQueries; ++q) {
    TIDEMILL_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      sums[q][c] = SoftmaxOps512::scaled_values(tile, query + q, d + c * 16);
    }
  }
  for (int step = 0; step < Columns::kSteps; ++step) {
    __m512i column[kColumns];
    TIDEMILL_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const unsigned char* line = values + (c * Columns::kSteps + step) * 64;
      prefetch(line + ahead);
      column[c] = _mm512_loadu_si512(line);
    }
    TIDEMILL_UNROLL
    for (int q = 0; q < kQueries; ++q) {
      const __m512i x = _mm512_set1_epi32(probabilities[Place::at(q, step)]);
      TIDEMILL_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        sums[q][c] = Columns::add(sums[q][c], x, column[c]);
      }
    }
  }
  TIDEMILL_UNROLL
  for (int q = 0; q < kQueries; ++q) {
    TIDEMILL_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      _mm512_store_ps(tile.values(query + q) + d + c * 16, sums[q][c]);
    }
  }
}

// All columns; probabilities are of the first of the queries.
template <typename Columns, typename Place, int kQueries>
void add_all_columns(const unsigned char* values, int64_t ahead, const int32_t* probabilities,
                     int64_t query, int64_t padded_dim, QueryTile& tile) {
  constexpr int64_t kColumnBytes = Columns::kSteps * 64;
  int64_t d = 0;
  constexpr int kWide = kQueries == 1 ? Place::kColumnsOfOne : 4;
  for (; d + kWide * 16 <= padded_dim; d += kWide * 16, values += kWide * kColumnBytes) {
    add_columns<Columns, Place, kQueries, kWide>(values, ahead, probabilities, query, d, tile);
  }
  for (; d < padded_dim; d += 16, values += kColumnBytes) {
    add_columns<Columns, Place, kQueries, 1>(values, ahead, probabilities, query, d, tile);
  }
}

// Queries begin .. end of a tile, four at a time.
template <typename Columns>
void add_tile_columns(const unsigned char* values, int64_t ahead, const void* probabilities,
                      int64_t begin, int64_t end, int64_t padded_dim, QueryTile& tile) {
  const auto* words = static_cast<const int32_t*>(probabilities);
  int64_t query = begin;
  for (; query + 4 <= end; query += 4) {
    add_all_columns<Columns, InTile, 4>(values, ahead, words + query, query, padded_dim, tile);
    ahead = 0;  // the first queries have asked for the next block
  }
  for (; query < end; ++query) {
    add_all_columns<Columns, InTile, 1>(values, ahead, words + query, query, padded_dim, tile);
  }
}

// kRows queries whose probabilities lie one behind the other.
template <typename Columns, int kRows>
void add_row_columns(const unsigned char* values, int64_t ahead, const void* probabilities,
                     int64_t query, int64_t padded_dim, QueryTile& tile) {
  add_all_columns<Columns, InRows<Columns>, kRows>(
      values, ahead, static_cast<const int32_t*>(probabilities), query, padded_dim, tile);
}

}  // namespace
}  // namespace tidemill

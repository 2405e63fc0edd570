// What the AVX2 attentions share: the softmax of a block's 32 scores, of one query side by side and
// of 16 queries one to an element.
#pragma once

#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/attention_loop.h"
#include "kernels/host/unroll.h"
#include "kernels/host/vector_avx2.h"

namespace tidemill {
namespace {

struct SoftmaxOps256 {
  static float exp_one(float x) { return exp256_one(x); }

  static float max(const float* scores) {
    __m256 max = _mm256_load_ps(scores);
    for (int i = 8; i < kTokensPerBlock; i += 8) {
      max = _mm256_max_ps(max, _mm256_load_ps(scores + i));
    }
    return max256(max);
  }

  // exp(score - max), zero where masked.
  static __m256 exponential(__m256 score, __m256 max) {
    const __m256 seen = _mm256_cmp_ps(score, _mm256_set1_ps(kMasked), _CMP_GT_OQ);
    return _mm256_and_ps(seen, exp256(_mm256_sub_ps(score, max)));
  }

  // scores become their exponentials; their sum.
  static float exponentials(float* scores, float max) {
    __m256 sum = _mm256_setzero_ps();
    for (int i = 0; i < kTokensPerBlock; i += 8) {
      const __m256 e = exponential(_mm256_load_ps(scores + i), _mm256_set1_ps(max));
      _mm256_store_ps(scores + i, e);
      sum = _mm256_add_ps(sum, e);
    }
    return sum256(sum);
  }

  template <int kRows>
  static void clear_sums(__m256 (&sums)[kRows][4]) {
    TIDEMILL_UNROLL
    for (int i = 0; i < kRows * 4; ++i) sums[i / 4][i % 4] = _mm256_setzero_ps();
  }

  // Four quarters of 8 sums for each query, times `scale`.
  template <int kRows>
  static void store_scores(const __m256 (&sums)[kRows][4], float scale,
                           float (*scores)[kTokensPerBlock]) {
    TIDEMILL_UNROLL
    for (int i = 0; i < kRows * 4; ++i) {
      _mm256_store_ps(scores[i / 4] + i % 4 * 8,
                      _mm256_mul_ps(sums[i / 4][i % 4], _mm256_set1_ps(scale)));
    }
  }

  static __m256 scaled_values(const QueryTile& tile, int64_t query, int64_t d) {
    return _mm256_mul_ps(_mm256_load_ps(tile.values(query) + d),
                         _mm256_set1_ps(tile.factor[query]));
  }

  // A vector of values: total * old_factor + partition * new_factor; values / sum.
  static constexpr int64_t kFloats = 8;
  static void add_scaled(const float* partition, float new_factor, float old_factor, float* total) {
    const __m256 old_part = _mm256_mul_ps(_mm256_load_ps(total), _mm256_set1_ps(old_factor));
    const __m256 new_part = _mm256_mul_ps(_mm256_load_ps(partition), _mm256_set1_ps(new_factor));
    _mm256_store_ps(total, _mm256_add_ps(old_part, new_part));
  }
  static void divide(const float* values, float sum, float* out) {
    _mm256_store_ps(out, _mm256_div_ps(_mm256_load_ps(values), _mm256_set1_ps(sum)));
  }

  static void mask_tile(int64_t position, const QueryTile& tile, float* scores) {
    for (int64_t i = 0; i < kTile; i += 8) {
      const __m256i first = _mm256_load_si256(reinterpret_cast<const __m256i*>(tile.first + i));
      const __m256i last = _mm256_load_si256(reinterpret_cast<const __m256i*>(tile.last + i));
      for (int64_t t = 0; t < kTokensPerBlock; ++t) {
        const __m256i at = _mm256_set1_epi32(static_cast<int32_t>(position + t));
        const __m256i outside =
            _mm256_or_si256(_mm256_cmpgt_epi32(first, at), _mm256_cmpgt_epi32(at, last));
        float* score = scores + t * kTile + i;
        _mm256_store_ps(score, _mm256_blendv_ps(_mm256_load_ps(score), _mm256_set1_ps(kMasked),
                                                _mm256_castsi256_ps(outside)));
      }
    }
  }

  // Eight tokens at a time, one behind the other, and then halves meet halves: the order of max and
  // exponentials above.
  static void tile_softmax(QueryTile& tile, bool, float* scores) {
    for (int64_t i = 0; i < kTile; i += 8) {
      const auto max_of = [](__m256 a, __m256 b) { return _mm256_max_ps(a, b); };
      const __m256 old_max = _mm256_load_ps(tile.max + i);
      const __m256 max = _mm256_max_ps(fold(scores + i, max_of), old_max);
      const __m256 factor = exp256(_mm256_sub_ps(old_max, max));
      for (int64_t t = 0; t < kTokensPerBlock; ++t) {
        float* score = scores + t * kTile + i;
        _mm256_store_ps(score, exponential(_mm256_load_ps(score), max));
      }
      const __m256 sum = fold(scores + i, [](__m256 a, __m256 b) { return _mm256_add_ps(a, b); });
      const __m256 old_sum = _mm256_mul_ps(_mm256_load_ps(tile.sum + i), factor);
      _mm256_store_ps(tile.sum + i, _mm256_add_ps(old_sum, sum));
      _mm256_store_ps(tile.max + i, max);
      _mm256_store_ps(tile.factor + i, factor);
    }
  }

 private:
  template <typename Combine>
  static __m256 fold(const float* scores, Combine combine) {
    __m256 tree[8];
    TIDEMILL_UNROLL
    for (int t = 0; t < 8; ++t) {
      tree[t] = _mm256_load_ps(scores + t * kTile);
      for (int64_t later = t + 8; later < kTokensPerBlock; later += 8) {
        tree[t] = combine(tree[t], _mm256_load_ps(scores + later * kTile));
      }
    }
    TIDEMILL_UNROLL
    for (int t = 0; t < 4; ++t) tree[t] = combine(tree[t], tree[t + 4]);
    tree[0] = combine(tree[0], tree[2]);
    tree[1] = combine(tree[1], tree[3]);
    return combine(tree[0], tree[1]);
  }
};

}  // namespace
}  // namespace tidemill

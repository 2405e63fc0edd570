// What the AVX-512 attentions share: the maximum and the exponentials of a block's 32 scores, and
// how scores and sums lie in a head's state.
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

  // scores become exp(score - max), zero where masked; their sum.
  static float exponentials(float* scores, float max) {
    __m512 sum = _mm512_setzero_ps();
    for (int half = 0; half < 2; ++half) {
      const __m512 s = _mm512_load_ps(scores + half * 16);
      const __mmask16 seen = _mm512_cmp_ps_mask(s, _mm512_set1_ps(kMasked), _CMP_GT_OQ);
      const __m512 e = _mm512_maskz_mov_ps(seen, exp512(_mm512_sub_ps(s, _mm512_set1_ps(max))));
      _mm512_store_ps(scores + half * 16, e);
      sum = _mm512_add_ps(sum, e);
    }
    return sum512(sum);
  }

  // Two halves of 16 sums for each head, times `scale`.
  template <int kHeads>
  static void store_scores(const __m512 (&sums)[kHeads][2], float scale, SoftmaxState* states) {
    TIDEMILL_UNROLL
    for (int h = 0; h < kHeads; ++h) {
      _mm512_store_ps(states[h].scores, _mm512_mul_ps(sums[h][0], _mm512_set1_ps(scale)));
      _mm512_store_ps(states[h].scores + 16, _mm512_mul_ps(sums[h][1], _mm512_set1_ps(scale)));
    }
  }

  template <int kHeads>
  static void round_scores(const SoftmaxState* states, uint16_t (*rounded)[kTokensPerBlock]) {
    for (int h = 0; h < kHeads; ++h) {
      for (int half = 0; half < kTokensPerBlock; half += 16) {
        _mm256_store_si256(reinterpret_cast<__m256i*>(rounded[h] + half),
                           to_bf16_512(_mm512_load_ps(states[h].scores + half)));
      }
    }
  }

  static __m512 scaled_out(const SoftmaxState& state, int64_t d) {
    return _mm512_mul_ps(_mm512_load_ps(state.out + d), _mm512_set1_ps(state.factor));
  }
};

}  // namespace
}  // namespace tidemill

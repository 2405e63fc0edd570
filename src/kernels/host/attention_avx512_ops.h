// What the AVX-512 attentions share: the maximum and the exponentials of a block's 32 scores, and
// both operations on an f32 cache.
#pragma once

#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/attention_loop.h"
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
};

}  // namespace
}  // namespace tidemill

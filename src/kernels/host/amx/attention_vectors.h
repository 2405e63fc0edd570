// What AVX-512 does between the products of attention on tiles (attention_loop.h): maxima, masks,
// probabilities. exp(x) is 2^(x log2(e)), the factor going into that of the scores.
//
// In an unnamed namespace, as attention_loop.h of the folder above explains.
#pragma once

#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/unroll.h"

namespace tidemill {
namespace {

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

}  // namespace
}  // namespace tidemill

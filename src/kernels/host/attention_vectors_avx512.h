// What AVX-512 does between the products of the attentions that walk groups: maxima, masks,
// probabilities of bf16. exp(x) is 2^(x log2(e)), the factor going into that of the scores.
//
// In an unnamed namespace, as attention_loop.h explains.
#pragma once

#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/vector_avx512.h"

namespace tidemill {
namespace {

// 2^x, relative error below 3e-6 (a polynomial of 2^x - 1 over [0, 1), exact at 0). Denormal
// results are zero, here and below, as a worker's MXCSR says.
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

inline float power_of_two_one(float x) { return _mm512_cvtss_f32(power_of_two(_mm512_set1_ps(x))); }

constexpr float kLog2OfE = 1.44269504f;

// 2^x, relative error below 9e-5, plus half of what bf16's last bit is worth there: its upper half
// is 2^x as bf16, the nearest but where that error reaches the middle of two. 1 at 0.
inline __m512 power_to_cut(__m512 x) {
  constexpr int kMinusFloor = 0x09;
  const __m512 r = _mm512_reduce_ps(x, kMinusFloor);
  __m512 p = _mm512_set1_ps(7.7067174e-2f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.2764485e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9511682e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f + 0x1p-8f));
  return _mm512_scalef_ps(p, x);
}

// Of 32 floats, in order.
inline __m512i upper_halves(__m512 first, __m512 second) {
  alignas(64) static constexpr uint16_t kOdd[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21,
                                                    23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43,
                                                    45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  return _mm512_permutex2var_epi16(_mm512_castps_si512(first), _mm512_load_si512(kOdd),
                                   _mm512_castps_si512(second));
}

// Element r: the largest of v[r].
inline __m512 max_of_each(__m512 (&v)[16]) {
  return reduce_each512(v, [](__m512 a, __m512 b) { return _mm512_max_ps(a, b); });
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

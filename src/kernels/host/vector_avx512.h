// exp and reductions for the AVX-512 files: one definition, so that there is one arithmetic. In an
// unnamed namespace, as attention_loop.h explains.
#pragma once

#include <immintrin.h>

#include "kernels/host/unroll.h"

namespace tidemill {
namespace {

// exp(x), relative error below 2e-7 (Cephes' polynomial after reduction by powers of two). Zero
// below -87: there the result would be a denormal.
inline __m512 exp512(__m512 x) {
  const __mmask16 alive = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_GT_OQ);
  x = _mm512_min_ps(x, _mm512_set1_ps(88.0f));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
  p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
  return _mm512_maskz_scalef_ps(alive, p, n);
}

inline float exp512_one(float x) { return _mm512_cvtss_f32(exp512(_mm512_set1_ps(x))); }

// 2^x, relative error below 1.5e-7 (a polynomial of 2^x - 1 over [0, 1), exact at 0).
inline __m512 power_of_two512(__m512 x) {
  constexpr int kMinusFloor = 0x09;
  const __m512 r = _mm512_reduce_ps(x, kMinusFloor);
  __m512 p = _mm512_set1_ps(1.8671304e-3f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.0170298e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.5799913e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.4016444e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9315130e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, x);
}

// 1 / x of a number from 1 on, to the last bit or the one before: a step of Newton's behind 14 bits
// (a division of 16 numbers holds up all others).
inline __m512 reciprocal512(__m512 x) {
  const __m512 r = _mm512_rcp14_ps(x);
  return _mm512_mul_ps(r, _mm512_fnmadd_ps(x, r, _mm512_set1_ps(2.0f)));
}

// Halves are added to halves: one order for every sum over lanes.
inline float sum512(__m512 v) {
  const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps(c, c, 1)));
}

inline float max512(__m512 v) {
  const __m256 a = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(c, _mm_shuffle_ps(c, c, 1)));
}

// Element r: what `combine` makes of the elements of v[r], halves meeting halves.
template <typename Combine>
inline __m512 reduce_each512(__m512 (&v)[16], const Combine& combine) {
  TIDEMILL_UNROLL
  for (int r = 0; r < 8; ++r) {
    v[r] = combine(_mm512_shuffle_f32x4(v[r], v[r + 8], 0x44),
                   _mm512_shuffle_f32x4(v[r], v[r + 8], 0xee));
  }
  TIDEMILL_UNROLL
  for (int r = 0; r < 4; ++r) {
    v[r] = combine(_mm512_shuffle_f32x4(v[r], v[r + 4], 0x88),
                   _mm512_shuffle_f32x4(v[r], v[r + 4], 0xdd));
  }
  TIDEMILL_UNROLL
  for (int r = 0; r < 2; ++r) {
    v[r] =
        combine(_mm512_shuffle_ps(v[r], v[r + 2], 0x44), _mm512_shuffle_ps(v[r], v[r + 2], 0xee));
  }
  const __m512 mixed =
      combine(_mm512_shuffle_ps(v[0], v[1], 0x88), _mm512_shuffle_ps(v[0], v[1], 0xdd));
  // Its elements are those of rows 0 2 1 3, 8 10 9 11, 4 6 5 7, 12 14 13 15.
  return _mm512_permutexvar_ps(
      _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15), mixed);
}

// Floats to bf16, nearest even; NaN stays one. The same bits as VCVTNEPS2BF16 but for denormals.
inline __m256i to_bf16_512(__m512 v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  const __m512i kept = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(kept, 16));
}

// Word c of row r becomes word r of row c.
inline void transpose512(__m512i (&rows)[16]) {
  __m512i pairs[16];
  TIDEMILL_UNROLL_16
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  // Part L of quads[4 k + j]: words 4 L + j of the rows 4 k to 4 k + 3.
  __m512i quads[16];
  TIDEMILL_UNROLL_16
  for (int i = 0; i < 16; i += 4) {
    quads[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
    quads[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
    quads[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    quads[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
  constexpr int kEven = 0x88;  // parts 0 and 2 of either
  constexpr int kOdd = 0xdd;
  TIDEMILL_UNROLL
  for (int j = 0; j < 4; ++j) {
    const __m512i upper_even = _mm512_shuffle_i32x4(quads[j], quads[4 + j], kEven);
    const __m512i lower_even = _mm512_shuffle_i32x4(quads[8 + j], quads[12 + j], kEven);
    const __m512i upper_odd = _mm512_shuffle_i32x4(quads[j], quads[4 + j], kOdd);
    const __m512i lower_odd = _mm512_shuffle_i32x4(quads[8 + j], quads[12 + j], kOdd);
    rows[j] = _mm512_shuffle_i32x4(upper_even, lower_even, kEven);
    rows[4 + j] = _mm512_shuffle_i32x4(upper_odd, lower_odd, kEven);
    rows[8 + j] = _mm512_shuffle_i32x4(upper_even, lower_even, kOdd);
    rows[12 + j] = _mm512_shuffle_i32x4(upper_odd, lower_odd, kOdd);
  }
}

}  // namespace
}  // namespace tidemill

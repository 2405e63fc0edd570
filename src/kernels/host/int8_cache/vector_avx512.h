// A register of sixteen 32-bit numbers, for the AVX-512 files of this folder. `Dot` multiplies
// pairs of 16 bits and adds them to a sum.
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace tidemill {
namespace {

// Without VNNI.
struct WordsMadd {
  static __m512i dot(__m512i sum, __m512i a, __m512i b) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
  }
};

template <typename Dot>
struct IntegerVector512 : Dot {
  using Float = __m512;
  using Int = __m512i;
  static constexpr int kWidth = 16;
  static constexpr int kRowsAtOnce = 4;
  static constexpr int64_t kMaxRowQueries = 10;
  static constexpr int kTileTokens = 16;
  static constexpr int kTileColumns = 4;

  static Int zero() { return _mm512_setzero_si512(); }
  static Int set(int32_t value) { return _mm512_set1_epi32(value); }
  static Float set(float value) { return _mm512_set1_ps(value); }
  static Int load_bytes(const void* data) { return _mm512_loadu_si512(data); }
  static Float load(const float* data) { return _mm512_load_ps(data); }
  static void store(Float value, float* data) { _mm512_store_ps(data, value); }
  static void store(Int value, int32_t* data) { _mm512_store_si512(data, value); }
  // Two bf16 bytes each.
  static Float load_scales(const unsigned char* data) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data));
    return as_float(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static float scale_at(const unsigned char* data) {
    const uint32_t bits = *reinterpret_cast<const uint16_t*>(data);
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(static_cast<int>(bits << 16))));
  }

  // Words of four bytes to pairs: the first and third byte, the second and fourth.
  static Int even(Int bytes) { return _mm512_srai_epi16(_mm512_slli_epi16(bytes, 8), 8); }
  static Int odd(Int bytes) { return _mm512_srai_epi16(bytes, 8); }

  static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm512_div_ps(a, b); }
  static Float fmadd(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }
  static Int max(Int a, Int b) { return _mm512_max_epi32(a, b); }
  static Int magnitude(Float a) {
    return _mm512_and_si512(as_int(a), _mm512_set1_epi32(0x7fffffff));
  }
  static Float as_float(Int bits) { return _mm512_castsi512_ps(bits); }
  static Int as_int(Float value) { return _mm512_castps_si512(value); }
  static Float to_float(Int value) { return _mm512_cvtepi32_ps(value); }
  static Int round(Float value) { return _mm512_cvtps_epi32(value); }
  static float first(Float value) { return _mm512_cvtss_f32(value); }
  static int32_t sum_of(Int v) { return _mm512_reduce_add_epi32(v); }
  static int32_t max_of(Int v) {
    const __m256i a = _mm256_max_epi32(_mm512_castsi512_si256(v), _mm512_extracti32x8_epi32(v, 1));
    const __m128i b = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    const __m128i c = _mm_max_epi32(b, _mm_shuffle_epi32(b, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(c, _mm_shuffle_epi32(c, 0xb1)));
  }

  // Elements first .. last stay; bounds may lie outside.
  static Int clear_outside(Int v, int64_t first, int64_t last) {
    const Int index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __mmask16 behind = _mm512_cmpge_epi32_mask(index, set(static_cast<int32_t>(first)));
    const __mmask16 before = _mm512_cmple_epi32_mask(index, set(static_cast<int32_t>(last)));
    return _mm512_maskz_mov_epi32(behind & before, v);
  }

  // Of each four integers the first and third, the second and fourth.
  static void store_pairs(Int integers, int32_t* pairs) {
    const __m256i words = _mm512_cvtsepi32_epi16(integers);
    const __m256i low = _mm256_shufflelo_epi16(words, 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(pairs), _mm256_shufflehi_epi16(low, 0xd8));
  }
  // `low` is not negative.
  static Int pair_of(Int low, Int high) {
    return _mm512_or_si512(_mm512_and_si512(low, _mm512_set1_epi32(0xffff)),
                           _mm512_slli_epi32(high, 16));
  }
};

}  // namespace
}  // namespace tidemill

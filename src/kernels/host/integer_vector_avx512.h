// A panel's row of integers in a register of AVX-512, and the floats of its 16 channels. In an
// unnamed namespace, as product_tiles.h explains.
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace tidemill {
namespace {

struct IntegerVector {
  using I = __m512i;
  using F = __m512;
  static constexpr int64_t kChannels = 16;
  static constexpr int kWords = 24;  // of 16-bit sums, product_maddubs.h

  static I set1(int32_t value) { return _mm512_set1_epi32(value); }
  static I set1_byte(int8_t value) { return _mm512_set1_epi8(value); }
  static I load(const unsigned char* data) { return _mm512_loadu_si512(data); }
  static void store_bytes(unsigned char* target, I v) { _mm512_storeu_si512(target, v); }
  static I low_nibbles(I v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
  static I shift_words_right(I v) { return _mm512_srli_epi16(v, 4); }
  static I subtract_bytes(I a, I b) { return _mm512_sub_epi8(a, b); }
  static I add(I a, I b) { return _mm512_add_epi32(a, b); }
  static I subtract(I a, I b) { return _mm512_sub_epi32(a, b); }
  static I add_pairs(I words, int16_t factor) {
    return _mm512_madd_epi16(words, _mm512_set1_epi16(factor));
  }

  static F zero() { return _mm512_setzero_ps(); }
  static F set1_float(float value) { return _mm512_set1_ps(value); }
  static F floats_at(const void* data) { return _mm512_loadu_ps(static_cast<const float*>(data)); }
  static F halves_at(const unsigned char* data) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(data)));
  }
  static I words_at(const unsigned char* data) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(data)));
  }
  static I masked(I v, int32_t mask) { return _mm512_and_si512(v, _mm512_set1_epi32(mask)); }
  // Each of 16 numbers below 256 as four bytes.
  static I spread_bytes(I v) { return _mm512_mullo_epi32(v, _mm512_set1_epi32(0x01010101)); }
  static I multiply(I a, I b) { return _mm512_mullo_epi32(a, b); }
  static F scaled(I sums, F scale) { return _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static void store(float* target, F value) { _mm512_storeu_ps(target, value); }
};

}  // namespace
}  // namespace tidemill

// Integer products with AVX2: half a panel's row in a register.
#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/inner.h"
#include "kernels/host/product_maddubs.h"

namespace tidemill::avx2 {
namespace {

struct Vector {
  using I = __m256i;
  using F = __m256;
  static constexpr int64_t kChannels = 8;
  static constexpr int kWords = 12;  // of 16-bit sums, product_maddubs.h

  static I set1(int32_t value) { return _mm256_set1_epi32(value); }
  static I load(const unsigned char* data) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data));
  }
  static I low_nibbles(I v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
  static I shift_words_right(I v) { return _mm256_srli_epi16(v, 4); }
  static I add(I a, I b) { return _mm256_add_epi32(a, b); }
  static I subtract(I a, I b) { return _mm256_sub_epi32(a, b); }
  static I add_pairs(I words, int16_t factor) {
    return _mm256_madd_epi16(words, _mm256_set1_epi16(factor));
  }

  static F zero() { return _mm256_setzero_ps(); }
  static F set1_float(float value) { return _mm256_set1_ps(value); }
  static F floats_at(const void* data) { return _mm256_loadu_ps(static_cast<const float*>(data)); }
  static F halves_at(const unsigned char* data) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(data)));
  }
  static I widened_bytes(const unsigned char* data) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(data)));
  }
  static I multiply(I a, I b) { return _mm256_mullo_epi32(a, b); }
  static F scaled(I sums, F scale) { return _mm256_mul_ps(_mm256_cvtepi32_ps(sums), scale); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static void store(float* target, F value) { _mm256_storeu_ps(target, value); }
};

}  // namespace

void product_int8(const ProductTile& tile) { maddubs_product<Vector, Int8Planes>(tile); }
void product_int4(const ProductTile& tile) { maddubs_product<Vector, Int4Planes>(tile); }

}  // namespace tidemill::avx2

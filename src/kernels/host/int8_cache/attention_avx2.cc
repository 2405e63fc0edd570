// Attention over int8 with AVX2: VPMADDWD and an addition.
#include "kernels/host/attention_avx2_ops.h"
#include "kernels/host/int8_cache/attention_loop.h"
#include "kernels/host/int8_cache/widened_rows.h"

namespace tidemill::avx2 {
namespace {

// A register of eight 32-bit numbers.
struct IntegerVector256 {
  using Float = __m256;
  using Int = __m256i;
  static constexpr int kWidth = 8;
  static constexpr int kRowsAtOnce = 2;
  static constexpr int64_t kMaxRowQueries = 10;
  static constexpr int kTileTokens = 4;
  static constexpr int kTileColumns = 1;

  static __m256i* at(void* data) { return static_cast<__m256i*>(data); }
  static const __m256i* at(const void* data) { return static_cast<const __m256i*>(data); }

  static Int zero() { return _mm256_setzero_si256(); }
  static Int set(int32_t value) { return _mm256_set1_epi32(value); }
  static Float set(float value) { return _mm256_set1_ps(value); }
  static Int load_bytes(const void* data) { return _mm256_loadu_si256(at(data)); }
  static Float load(const float* data) { return _mm256_load_ps(data); }
  static void store(Float value, float* data) { _mm256_store_ps(data, value); }
  static void store(Int value, int32_t* data) { _mm256_store_si256(at(data), value); }
  // Two bf16 bytes each.
  static Float load_scales(const unsigned char* data) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data));
    return as_float(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  static float scale_at(const unsigned char* data) {
    const uint32_t bits = *reinterpret_cast<const uint16_t*>(data);
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(static_cast<int>(bits << 16))));
  }

  // Words of four bytes to pairs: the first and third byte, the second and fourth.
  static Int even(Int bytes) { return _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8); }
  static Int odd(Int bytes) { return _mm256_srai_epi16(bytes, 8); }
  static Int dot(Int sum, Int a, Int b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }

  static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm256_div_ps(a, b); }
  static Float fmadd(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  static Int add(Int a, Int b) { return _mm256_add_epi32(a, b); }
  static Int max(Int a, Int b) { return _mm256_max_epi32(a, b); }
  static Int magnitude(Float a) {
    return _mm256_and_si256(as_int(a), _mm256_set1_epi32(0x7fffffff));
  }
  static Float as_float(Int bits) { return _mm256_castsi256_ps(bits); }
  static Int as_int(Float value) { return _mm256_castps_si256(value); }
  static Float to_float(Int value) { return _mm256_cvtepi32_ps(value); }
  static Int round(Float value) { return _mm256_cvtps_epi32(value); }
  static float first(Float value) { return _mm256_cvtss_f32(value); }
  static int32_t sum_of(Int v) {
    const __m128i b = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    const __m128i c = _mm_add_epi32(b, _mm_shuffle_epi32(b, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(c, _mm_shuffle_epi32(c, 0xb1)));
  }
  static int32_t max_of(Int v) {
    const __m128i b = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    const __m128i c = _mm_max_epi32(b, _mm_shuffle_epi32(b, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(c, _mm_shuffle_epi32(c, 0xb1)));
  }

  // Elements first .. last stay; bounds may lie outside.
  static Int clear_outside(Int v, int64_t first, int64_t last) {
    const Int index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const Int before = _mm256_cmpgt_epi32(set(static_cast<int32_t>(first)), index);
    const Int behind = _mm256_cmpgt_epi32(index, set(static_cast<int32_t>(last)));
    return _mm256_andnot_si256(_mm256_or_si256(before, behind), v);
  }

  // Of each four integers the first and third, the second and fourth.
  static void store_pairs(Int integers, int32_t* pairs) {
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(integers), _mm256_extracti128_si256(integers, 1));
    const __m128i low = _mm_shufflelo_epi16(words, 0xd8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(pairs), _mm_shufflehi_epi16(low, 0xd8));
  }
  // `low` is not negative.
  static Int pair_of(Int low, Int high) {
    return _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi32(0xffff)),
                           _mm256_slli_epi32(high, 16));
  }
};

}  // namespace

void attend_int8(const AttentionTask& task) {
  attend_integers<WidenedRows<IntegerVector256>, SoftmaxOps256>(task);
}

}  // namespace tidemill::avx2

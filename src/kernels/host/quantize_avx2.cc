// Activations as integers with AVX2 (quantized_rows.h): 32 numbers at a time, as every group has.
#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/inner.h"
#include "kernels/host/quantize_groups.h"
#include "kernels/host/unroll.h"
#include "kernels/host/vector_avx2.h"

namespace tidemill::avx2 {
namespace {

int32_t sum_of(__m256i v) {
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1)));
}

// The largest |x| as a bit pattern.
int32_t largest_bits(const float* in, int64_t count) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i max = _mm256_setzero_si256();
  for (int64_t i = 0; i < count; i += 8) {
    const __m256i x = _mm256_castps_si256(load_some(in + i, count - i));
    max = _mm256_max_epi32(max, _mm256_and_si256(x, magnitude));
  }
  __m128i most = _mm_max_epi32(_mm256_castsi256_si128(max), _mm256_extracti128_si256(max, 1));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(most, _mm_shuffle_epi32(most, 0xb1)));
}

// Four registers of eight become 32 bytes, in order or (within eight) as 0, 4, 1, 5, 2, 6, 3, 7.
void store32(const __m256i (&values)[4], bool nibble_order, unsigned char* out) {
  const __m256i words01 = _mm256_packs_epi32(values[0], values[1]);
  const __m256i words23 = _mm256_packs_epi32(values[2], values[3]);
  const __m256i fours = _mm256_packs_epi16(words01, words23);  // 0-3 of each, then 4-7 of each
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  __m256i bytes = _mm256_permutevar8x32_epi32(fours, order);
  if (nibble_order) {
    const __m128i eights = _mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    bytes = _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(eights));
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), bytes);
}

// The eight numbers from `i` on as integers, at most +-largest.
__m256i rounded(const QuantizedGroup& group, int64_t i, int32_t largest) {
  const __m256 x = load_some(group.in + i, group.broken ? 0 : group.count - i);
  const __m256i q = _mm256_cvtps_epi32(_mm256_mul_ps(x, _mm256_set1_ps(group.factor)));
  return _mm256_max_epi32(_mm256_min_epi32(q, _mm256_set1_epi32(largest)),
                          _mm256_set1_epi32(-largest));
}

struct Ops {
  static uint32_t abs_max_bits(const float* in, int64_t count) {
    return static_cast<uint32_t>(largest_bits(in, count));
  }

  static void round_group(const QuantizedGroup& group, const QuantizedRun& run) {
    __m256i sums = _mm256_setzero_si256();
    for (int64_t i = 0; i < group.padded; i += 32) {
      __m256i q[4];
      TIDEMILL_UNROLL
      for (int j = 0; j < 4; ++j) {
        q[j] = rounded(group, i + 8 * j, 127);
        sums = _mm256_add_epi32(sums, q[j]);
      }
      store32(q, group.nibble_order, run.q + i);
    }
    store_group_scale(run, group.index, group.scale, sum_of(sums));
  }

  static void round_group_in_two(const QuantizedGroup& group, const QuantizedRun& high_run,
                                 const QuantizedRun& low_run) {
    __m256i high_sums = _mm256_setzero_si256();
    __m256i low_sums = _mm256_setzero_si256();
    for (int64_t i = 0; i < group.padded; i += 32) {
      __m256i high[4];
      __m256i low[4];
      TIDEMILL_UNROLL
      for (int j = 0; j < 4; ++j) {
        const __m256i q = rounded(group, i + 8 * j, static_cast<int32_t>(kLargestInt16));
        low[j] = _mm256_srai_epi32(_mm256_slli_epi32(q, 24), 24);
        high[j] = _mm256_srai_epi32(_mm256_sub_epi32(q, low[j]), 8);
        high_sums = _mm256_add_epi32(high_sums, high[j]);
        low_sums = _mm256_add_epi32(low_sums, low[j]);
      }
      store32(high, group.nibble_order, high_run.q + i);
      store32(low, group.nibble_order, low_run.q + i);
    }
    store_group_scale(high_run, group.index, group.scale * 256.0f, sum_of(high_sums));
    store_group_scale(low_run, group.index, group.scale, sum_of(low_sums));
  }
};

}  // namespace

void quantize(const float* in, int64_t count, const QuantizedForm& form, int64_t stride,
              unsigned char* out) {
  quantize_row<Ops>(in, count, form, stride, out);
}

}  // namespace tidemill::avx2

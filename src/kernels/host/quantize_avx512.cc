// Activations as integers with AVX-512 (quantized_rows.h).
#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/inner.h"
#include "kernels/host/quantize_groups.h"

namespace tidemill::avx512 {
namespace {

__mmask16 lanes_left(int64_t count) {
  if (count <= 0) return 0;
  return count >= 16 ? static_cast<__mmask16>(0xffff) : static_cast<__mmask16>((1u << count) - 1u);
}

// 16 numbers from `i` on of `count`, zeros behind them. Nearly all are whole.
__m512 numbers_at(const float* in, int64_t i, int64_t count) {
  if (count - i >= 16) return _mm512_loadu_ps(in + i);
  return _mm512_maskz_loadu_ps(lanes_left(count - i), in + i);
}

// The largest |x| as a bit pattern.
uint32_t largest_bits(const float* in, int64_t count) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i max = _mm512_setzero_si512();
  for (int64_t i = 0; i < count; i += 16) {
    const __m512i x = _mm512_castps_si512(numbers_at(in, i, count));
    max = _mm512_max_epu32(max, _mm512_and_si512(x, magnitude));
  }
  return _mm512_reduce_max_epu32(max);
}

// Within eight bytes: 0, 4, 1, 5, 2, 6, 3, 7.
__m128i ordered(__m128i bytes, bool nibble_order) {
  if (!nibble_order) return bytes;
  const __m128i order = _mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
  return _mm_shuffle_epi8(bytes, order);
}

void store16(__m512i values, bool nibble_order, unsigned char* out) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out),
                   ordered(_mm512_cvtepi32_epi8(values), nibble_order));
}

// The 16 numbers from `i` on as integers: the group's largest number is the largest integer, and
// nothing is beyond.
__m512i rounded(const QuantizedGroup& group, int64_t i) {
  const __m512 x = numbers_at(group.in, i, group.broken ? 0 : group.count);
  return _mm512_cvtps_epi32(_mm512_mul_ps(x, _mm512_set1_ps(group.factor)));
}

struct Ops {
  static uint32_t abs_max_bits(const float* in, int64_t count) { return largest_bits(in, count); }

  static void round_group(const QuantizedGroup& group, const QuantizedRun& run) {
    __m512i sums = _mm512_setzero_si512();
    for (int64_t i = 0; i < group.padded; i += 16) {
      const __m512i q = rounded(group, i);
      sums = _mm512_add_epi32(sums, q);
      store16(q, group.nibble_order, run.q + i);
    }
    store_group_scale(run, group.index, group.scale, _mm512_reduce_add_epi32(sums));
  }

  static void round_group_in_two(const QuantizedGroup& group, const QuantizedRun& high_run,
                                 const QuantizedRun& low_run) {
    __m512i high_sums = _mm512_setzero_si512();
    __m512i low_sums = _mm512_setzero_si512();
    for (int64_t i = 0; i < group.padded; i += 16) {
      const __m512i q = rounded(group, i);
      const __m512i low = _mm512_srai_epi32(_mm512_slli_epi32(q, 24), 24);
      const __m512i high = _mm512_srai_epi32(_mm512_sub_epi32(q, low), 8);
      high_sums = _mm512_add_epi32(high_sums, high);
      low_sums = _mm512_add_epi32(low_sums, low);
      store16(high, group.nibble_order, high_run.q + i);
      store16(low, group.nibble_order, low_run.q + i);
    }
    store_group_scale(high_run, group.index, group.scale * 256.0f,
                      _mm512_reduce_add_epi32(high_sums));
    store_group_scale(low_run, group.index, group.scale, _mm512_reduce_add_epi32(low_sums));
  }
};

}  // namespace

void quantize(const float* in, int64_t count, const QuantizedForm& form, int64_t stride,
              unsigned char* out) {
  quantize_row<Ops>(in, count, form, stride, out);
}

}  // namespace tidemill::avx512

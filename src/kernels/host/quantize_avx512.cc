// Activations as integers with AVX-512 (quantized_rows.h).
#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/inner.h"
#include "kernels/quantized_rows.h"

namespace tidemill::avx512 {
namespace {

__mmask16 lanes_left(int64_t count) {
  if (count <= 0) return 0;
  return count >= 16 ? static_cast<__mmask16>(0xffff) : static_cast<__mmask16>((1u << count) - 1u);
}

// The largest |x| as a bit pattern: a NaN or an infinity is larger than every number.
uint32_t abs_max_bits(const float* in, int64_t count) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i max = _mm512_setzero_si512();
  for (int64_t i = 0; i < count; i += 16) {
    const __m512i x = _mm512_castps_si512(_mm512_maskz_loadu_ps(lanes_left(count - i), in + i));
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

struct Run {
  unsigned char* q;
  unsigned char* scales;
};

void store_scale(const Run& run, int64_t group, float scale, __m512i sums) {
  const GroupScale value{scale, _mm512_reduce_add_epi32(sums)};
  __builtin_memcpy(run.scales + group * 8, &value, sizeof value);
}

struct Group {
  const float* in;
  int64_t count;   // numbers
  int64_t padded;  // places, a multiple of 32
  int64_t index;
  bool nibble_order;
  float scale;
  bool broken;  // its scale is NaN and its integers are zero
};

// The 16 numbers from `i` on, over the scale, at most +-largest.
__m512i rounded(const Group& group, int64_t i, int32_t largest) {
  const __mmask16 mask = lanes_left(group.broken ? 0 : group.count - i);
  const __m512 x = _mm512_maskz_loadu_ps(mask, group.in + i);
  const __m512i q = _mm512_maskz_cvtps_epi32(mask, _mm512_div_ps(x, _mm512_set1_ps(group.scale)));
  return _mm512_max_epi32(_mm512_min_epi32(q, _mm512_set1_epi32(largest)),
                          _mm512_set1_epi32(-largest));
}

void quantize_group(const Group& group, const Run& run) {
  __m512i sums = _mm512_setzero_si512();
  for (int64_t i = 0; i < group.padded; i += 16) {
    const __m512i q = rounded(group, i, 127);
    sums = _mm512_add_epi32(sums, q);
    store16(q, group.nibble_order, run.q + i);
  }
  store_scale(run, group.index, group.scale, sums);
}

void quantize_group_in_two(const Group& group, const Run& high_run, const Run& low_run) {
  __m512i high_sums = _mm512_setzero_si512();
  __m512i low_sums = _mm512_setzero_si512();
  for (int64_t i = 0; i < group.padded; i += 16) {
    const __m512i q = rounded(group, i, static_cast<int32_t>(kLargestInt16));
    const __m512i low = _mm512_srai_epi32(_mm512_slli_epi32(q, 24), 24);
    const __m512i high = _mm512_srai_epi32(_mm512_sub_epi32(q, low), 8);
    high_sums = _mm512_add_epi32(high_sums, high);
    low_sums = _mm512_add_epi32(low_sums, low);
    store16(high, group.nibble_order, high_run.q + i);
    store16(low, group.nibble_order, low_run.q + i);
  }
  store_scale(high_run, group.index, group.scale * 256.0f, high_sums);
  store_scale(low_run, group.index, group.scale, low_sums);
}

}  // namespace

void quantize(const float* in, int64_t count, const QuantizedForm& form, int64_t stride,
              unsigned char* out) {
  const int64_t padded = (count + kQuantizedPadding - 1) / kQuantizedPadding * kQuantizedPadding;
  const int64_t per_group = form.group == 0 ? padded : form.group;
  const float largest = form.parts == 1 ? kLargestInt8 : kLargestInt16;
  for (int64_t begin = 0, index = 0; begin < padded; begin += per_group, ++index) {
    const int64_t places = padded - begin < per_group ? padded - begin : per_group;
    const int64_t numbers = count - begin < places ? count - begin : places;
    const uint32_t bits = abs_max_bits(in + begin, numbers);
    const bool broken = bits >= 0x7f800000u;
    float max;
    __builtin_memcpy(&max, &bits, sizeof max);
    max = broken ? __builtin_nanf("") : max > kMinAbsMax ? max : kMinAbsMax;
    const Group group{in + begin, numbers, places, index, form.nibble_order, max / largest, broken};
    const Run first{out + begin, out + padded};
    if (form.parts == 1) {
      quantize_group(group, first);
    } else {
      quantize_group_in_two(group, first, {out + stride + begin, out + stride + padded});
    }
  }
  const int64_t used = padded + (padded + per_group - 1) / per_group * 8;
  for (int64_t part = 0; part < form.parts; ++part) {
    for (int64_t i = used; i < stride; ++i) out[part * stride + i] = 0;
  }
}

}  // namespace tidemill::avx512

// Activations as integers with AVX-512 (quantized_rows.h).
#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/inner.h"
#include "kernels/host/quantize_groups.h"
#include "kernels/host/unroll.h"
#include "kernels/host/vector_avx512.h"

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

// Where each byte of 16 comes from: within eight bytes 0, 4, 1, 5, 2, 6, 3, 7, or in order.
__m128i order_of(bool nibble_order) {
  return nibble_order ? _mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15)
                      : _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

void store16(__m512i values, bool nibble_order, unsigned char* out) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out),
                   _mm_shuffle_epi8(_mm512_cvtepi32_epi8(values), order_of(nibble_order)));
}

// The 16 numbers from `i` on as integers: the group's largest number is the largest integer, and
// nothing is beyond.
__m512i rounded(const QuantizedGroup& group, int64_t i) {
  const __m512 x = numbers_at(group.in, i, group.broken ? 0 : group.count);
  return _mm512_cvtps_epi32(_mm512_mul_ps(x, _mm512_set1_ps(group.factor)));
}

constexpr int64_t kNumbersAtOnce = 64;

// So many numbers times `factor` as bytes; elements of what comes back add up to their sum.
__m512i round_numbers(const float* in, __m512 factor, bool nibble_order, unsigned char* out) {
  __m512i q[4];
  TIDEMILL_UNROLL
  for (int i = 0; i < 4; ++i) {
    q[i] = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(in + 16 * i), factor));
  }
  // Packs take 16 bytes of the one, then of the other: four numbers of each q in turn.
  const __m512i packed =
      _mm512_packs_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3]));
  const __m512i in_order = _mm512_permutexvar_epi32(
      _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), packed);
  const __m512i order = _mm512_broadcast_i32x4(order_of(nibble_order));
  _mm512_storeu_si512(out, _mm512_shuffle_epi8(in_order, order));
  return _mm512_add_epi32(_mm512_add_epi32(q[0], q[1]), _mm512_add_epi32(q[2], q[3]));
}

struct Ops {
  static uint32_t abs_max_bits(const float* in, int64_t count) { return largest_bits(in, count); }

  static void round_group(const QuantizedGroup& group, const QuantizedRun& run) {
    __m512i sums = _mm512_setzero_si512();
    int64_t i = 0;
    const int64_t numbers = group.broken ? 0 : group.count;
    for (; i + kNumbersAtOnce <= numbers; i += kNumbersAtOnce) {
      const __m512i q =
          round_numbers(group.in + i, _mm512_set1_ps(group.factor), group.nibble_order, run.q + i);
      sums = _mm512_add_epi32(sums, q);
    }
    for (; i < group.padded; i += 16) {
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

// Up to sixteen groups at once: one vector has the largest number of each, and their sums, and is
// made, and divided, once for all of them.
constexpr int64_t kGroupsAtOnce = 16;

struct GroupScales {
  __m512 scales;
  __m512 factors;  // of a number to be an integer
  bool broken;     // some scale would be NaN
};

GroupScales scales_of(const float* in, int64_t group, int64_t num_groups) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512 largest[kGroupsAtOnce];
  TIDEMILL_UNROLL_16
  for (int g = 0; g < kGroupsAtOnce; ++g) {
    __m512i max = _mm512_setzero_si512();
    const int64_t end = g < num_groups ? (g + 1) * group : 0;
    for (int64_t i = g * group; i < end; i += 16) {
      const __m512i bits = _mm512_castps_si512(_mm512_loadu_ps(in + i));
      max = _mm512_max_epu32(max, _mm512_and_si512(bits, magnitude));
    }
    largest[g] = _mm512_castsi512_ps(max);
  }
  // As bit patterns: a NaN or an infinity is larger than every number.
  const __m512 max = reduce_each512(largest, [](__m512 a, __m512 b) {
    return _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
  });
  const __m512 divisor = _mm512_max_ps(max, _mm512_set1_ps(kMinAbsMax));
  const __m512 integer = _mm512_set1_ps(kLargestInt8);
  return {_mm512_div_ps(divisor, integer), _mm512_div_ps(integer, divisor),
          _mm512_cmpge_epu32_mask(_mm512_castps_si512(max), _mm512_set1_epi32(0x7f800000)) != 0};
}

// num_groups groups, the row's from `begin` on, of which `in` and the run's integers are the first;
// its scales are the row's. False: nothing was written, for one of them is broken.
bool round_groups(const float* in, const QuantizedForm& form, int64_t begin, int64_t num_groups,
                  const QuantizedRun& run) {
  const int64_t group = form.group;
  const GroupScales found = scales_of(in, group, num_groups);
  if (found.broken) return false;
  alignas(64) float factors[kGroupsAtOnce];
  _mm512_store_ps(factors, found.factors);
  __m512 sums[kGroupsAtOnce];
  TIDEMILL_UNROLL_16
  for (int g = 0; g < kGroupsAtOnce; ++g) {
    __m512i sum = _mm512_setzero_si512();
    const int64_t end = g < num_groups ? (g + 1) * group : 0;
    for (int64_t i = g * group; i < end; i += kNumbersAtOnce) {
      sum = _mm512_add_epi32(
          sum, round_numbers(in + i, _mm512_set1_ps(factors[g]), form.nibble_order, run.q + i));
    }
    sums[g] = _mm512_castsi512_ps(sum);
  }
  const __m512 totals = reduce_each512(sums, [](__m512 a, __m512 b) {
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
  });
  static_assert(sizeof(GroupScale) == 8);
  alignas(64) GroupScale scales[kGroupsAtOnce];
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  _mm512_store_ps(scales, _mm512_permutex2var_ps(found.scales, low, totals));
  _mm512_store_ps(scales + 8, _mm512_permutex2var_ps(found.scales, high, totals));
  __builtin_memcpy(run.scales + begin * static_cast<int64_t>(sizeof(GroupScale)), scales,
                   static_cast<size_t>(num_groups) * sizeof(GroupScale));
  return true;
}

// A row of whole groups of one part.
bool round_row(const float* in, int64_t count, const QuantizedForm& form, int64_t stride,
               unsigned char* out) {
  const int64_t num_groups = count / form.group;
  for (int64_t begin = 0; begin < num_groups; begin += kGroupsAtOnce) {
    const int64_t left = num_groups - begin;
    const QuantizedRun run{out + begin * form.group, out + count};
    if (!round_groups(in + begin * form.group, form, begin,
                      left < kGroupsAtOnce ? left : kGroupsAtOnce, run)) {
      return false;
    }
  }
  const int64_t used = count + num_groups * static_cast<int64_t>(sizeof(GroupScale));
  for (int64_t i = used; i < stride; ++i) out[i] = 0;
  return true;
}

}  // namespace

void quantize(const float* in, int64_t count, const QuantizedForm& form, int64_t stride,
              unsigned char* out) {
  const bool whole = form.parts == 1 && form.group >= kNumbersAtOnce &&
                     form.group % kNumbersAtOnce == 0 && count % form.group == 0;
  if (whole && round_row(in, count, form, stride, out)) return;
  quantize_row<Ops>(in, count, form, stride, out);
}

}  // namespace tidemill::avx512

// A row of floats as integers, group by group (quantized_rows.h), for vector variants. Included by
// quantize_*.cc, which bring `Ops`: the largest magnitude of a group, and its rounding into one run
// or two. In an unnamed namespace, so that nothing compiled with their flags can be linked into
// other files.
#pragma once

#include <stdint.h>

#include "kernels/quantized_rows.h"

namespace tidemill {
namespace {

struct QuantizedGroup {
  const float* in;
  int64_t count;   // numbers
  int64_t padded;  // places, a multiple of 32
  int64_t index;
  bool nibble_order;
  float scale;
  bool broken;   // its scale is NaN and its integers are zero
  float factor;  // of a number to be an integer; 1 if broken
};

// Where the group's integers and the row's scales go.
struct QuantizedRun {
  unsigned char* q;
  unsigned char* scales;
};

inline void store_group_scale(const QuantizedRun& run, int64_t group, float scale, int32_t sum) {
  const GroupScale value{scale, sum};
  __builtin_memcpy(run.scales + group * static_cast<int64_t>(sizeof value), &value, sizeof value);
}

template <typename Ops>
void quantize_row(const float* in, int64_t count, const QuantizedForm& form, int64_t stride,
                  unsigned char* out) {
  const int64_t padded = (count + kQuantizedPadding - 1) / kQuantizedPadding * kQuantizedPadding;
  const int64_t per_group = form.group == 0 ? padded : form.group;
  const float largest = form.parts == 1 ? kLargestInt8 : kLargestInt16;
  int64_t index = 0;
  for (int64_t begin = 0; begin < padded; begin += per_group, ++index) {
    const int64_t places = padded - begin < per_group ? padded - begin : per_group;
    const int64_t numbers = count - begin < places ? count - begin : places;
    // As a bit pattern: a NaN or an infinity is larger than every number.
    const uint32_t bits = Ops::abs_max_bits(in + begin, numbers);
    const bool broken = bits >= 0x7f800000u;
    float max;
    __builtin_memcpy(&max, &bits, sizeof max);
    max = broken ? __builtin_nanf("") : max > kMinAbsMax ? max : kMinAbsMax;
    const QuantizedGroup group{
        in + begin,        numbers,       places, index,
        form.nibble_order, max / largest, broken, broken ? 1.0f : largest / max};
    const QuantizedRun first{out + begin, out + padded};
    if (form.parts == 1) {
      Ops::round_group(group, first);
    } else {
      Ops::round_group_in_two(group, first, {out + stride + begin, out + stride + padded});
    }
  }
  const int64_t used = padded + index * static_cast<int64_t>(sizeof(GroupScale));
  for (int64_t part = 0; part < form.parts; ++part) {
    for (int64_t i = used; i < stride; ++i) out[part * stride + i] = 0;
  }
}

}  // namespace
}  // namespace tidemill

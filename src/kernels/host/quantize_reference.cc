// Activations as integers, number by number (quantized_rows.h).
#include <math.h>
#include <string.h>

#include "kernels/host/inner.h"
#include "kernels/quantized_rows.h"

namespace tidemill::reference {
namespace {

// The largest |x|, or NaN where one of them is NaN or infinite.
float abs_max(const float* in, int64_t count) {
  float max = kMinAbsMax;
  for (int64_t i = 0; i < count; ++i) {
    if (!isfinite(in[i])) return NAN;
    if (fabsf(in[i]) > max) max = fabsf(in[i]);
  }
  return max;
}

// Where input i of a run stands.
int64_t place_of(int64_t i, bool nibble_order) {
  constexpr int kPlaces[8] = {0, 2, 4, 6, 1, 3, 5, 7};
  return nibble_order ? i / 8 * 8 + kPlaces[i % 8] : i;
}

float clamped(float value, float largest) {
  return value > largest ? largest : value < -largest ? -largest : value;
}

}  // namespace

void quantize(const float* in, int64_t count, const QuantizedForm& form, int64_t stride,
              unsigned char* out) {
  const int64_t padded = (count + kQuantizedPadding - 1) / kQuantizedPadding * kQuantizedPadding;
  const int64_t per_group = form.group == 0 ? padded : form.group;
  memset(out, 0, static_cast<size_t>(form.parts * stride));
  const float largest = form.parts == 2 ? kLargestInt16 : kLargestInt8;
  for (int64_t begin = 0, group = 0; begin < padded; begin += per_group, ++group) {
    const int64_t left = count - begin < per_group ? count - begin : per_group;
    const float max = abs_max(in + begin, left > 0 ? left : 0);
    const float scale = max / largest;
    const float factor = largest / max;
    GroupScale scales[2] = {{form.parts == 2 ? scale * 256.0f : scale, 0}, {scale, 0}};
    for (int64_t i = 0; i < left && max == max; ++i) {
      const auto value = static_cast<int32_t>(clamped(rintf(in[begin + i] * factor), largest));
      const int32_t low = static_cast<signed char>(value & 255);
      const int32_t parts[2] = {form.parts == 2 ? (value - low) / 256 : value, low};
      for (int64_t part = 0; part < form.parts; ++part) {
        out[part * stride + place_of(begin + i, form.nibble_order)] =
            static_cast<unsigned char>(parts[part]);
        scales[part].sum += parts[part];
      }
    }
    for (int64_t part = 0; part < form.parts; ++part) {
      memcpy(out + part * stride + padded + group * static_cast<int64_t>(sizeof(GroupScale)),
             &scales[part], sizeof(GroupScale));
    }
  }
}

}  // namespace tidemill::reference

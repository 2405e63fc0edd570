// Activations as integers: what a product with an integer weight reads.
//
// A row of k numbers is one run of bytes, or two (QuantizedForm::parts):
//   int8   q[padded k]           k padded to 64; padding is zero
//   {float scale, int32 sum}     for each group: a number is scale * q, sum is that of the group's
//   q
// With two parts a number is that of the first run plus that of the second: v = x * (32639 /
// max|x|) to nearest even, in 16 bits, and s = max|x| / 32639; low byte (signed) in the second run
// with scale s, the rest, v - low over 256, in the first with scale 256 s.
//
// Rounding of one part: scale = max|x| / 127 over the group, max|x| not below 1e-5; q = x * (127 /
// max|x|) to nearest even, never beyond +-127. A group that holds a NaN or an infinity has the
// scale NaN: it makes the product NaN, as in the other formats, and is found there. Every variant
// rounds the same.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernels/tensor.h"

namespace tidemill {

inline constexpr int64_t kQuantizedPadding = 64;  // inputs
inline constexpr float kMinAbsMax = 1e-5f;
inline constexpr float kLargestInt8 = 127.0f;
inline constexpr float kLargestInt16 = 32639.0f;  // 127 * 256 + 127: both bytes stay within +-127

struct GroupScale {
  float scale;
  int32_t sum;
};

int64_t num_scales(const QuantizedForm& form, int64_t k);
// Bytes of one run, a multiple of 64: the stride of a tensor of this form.
int64_t quantized_run_bytes(const QuantizedForm& form, int64_t k);

}  // namespace tidemill

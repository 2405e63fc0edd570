// Rows of a tensor as the drivers of the host family write them.
#pragma once

#include <string.h>

#include "kernels/element_bytes.h"
#include "kernels/host/inner.h"
#include "kernels/tensor.h"

namespace tidemill::host {

inline unsigned char* row_of(const Tensor& tensor, int64_t row) {
  return static_cast<unsigned char*>(tensor.data) +
         row * tensor.form.parts * tensor.stride * element_bytes(tensor.type);
}

inline float* float_row(const Tensor& tensor, int64_t row) {
  return reinterpret_cast<float*>(row_of(tensor, row));
}

inline void clear_padding(const Tensor& out, int64_t row) {
  const int64_t bytes = element_bytes(out.type);
  memset(row_of(out, row) + out.cols * bytes, 0,
         static_cast<size_t>((out.stride - out.cols) * bytes));
}

// count floats into a row of `out`, from column `first`, in the type that `out` has. Whoever writes
// the last column zeroes what lies behind it: the next product reads up to the stride, and its
// padded weights turn anything but NaN into nothing.
template <const Inner& kInner>
void store(const float* values, int64_t count, const Tensor& out, int64_t row, int64_t first) {
  unsigned char* target = row_of(out, row) + first * element_bytes(out.type);
  if (out.type == DType::kF32) {
    memcpy(target, values, static_cast<size_t>(count) * sizeof(float));
  } else {
    kInner.to_bf16(values, count, reinterpret_cast<uint16_t*>(target));
  }
  if (first + count == out.cols) clear_padding(out, row);
}

}  // namespace tidemill::host

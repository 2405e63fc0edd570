// Bytes of one number. Apart from tensor.h, which files compiled for wider instruction sets
// include: an inline function there could be kept for everybody.
#pragma once

#include "kernels/tensor.h"

namespace tidemill {

constexpr int64_t element_bytes(DType type) {
  return type == DType::kF32 ? 4 : type == DType::kBf16 ? 2 : 1;
}

}  // namespace tidemill

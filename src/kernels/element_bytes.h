// Bytes of one number, and what people call it. Apart from tensor.h, which files compiled for wider
// instruction sets include: an inline function there could be kept for everybody.
#pragma once

#include "kernels/tensor.h"

namespace tidemill {

constexpr int64_t element_bytes(DType type) {
  return type == DType::kF32 ? 4 : type == DType::kBf16 ? 2 : 1;
}

constexpr const char* name_of(DType type) {
  return type == DType::kF32 ? "f32" : type == DType::kBf16 ? "bf16" : "int8";
}

}  // namespace tidemill

// A view of numbers in memory that a variant allocated. Views never own.
// Plain data: files compiled for wider instruction sets include this.
#pragma once

#include <stdint.h>

namespace tidemill {

enum class DType : uint8_t { kF32, kBf16 };

// rows x cols, row-major; row r begins `stride` elements behind row r - 1. bf16 elements are
// uint16_t. Rows start on 64-byte boundaries, and stride is a multiple of 64 bytes, so that kernels
// may read (never write) whole vectors up to the stride; what lies between cols and stride is zero
// when the producer is a kernel.
struct Tensor {
  void* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;  // elements
  DType type = DType::kF32;
};

}  // namespace tidemill

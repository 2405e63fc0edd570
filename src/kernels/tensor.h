// A view of numbers in memory that a variant allocated. Views never own.
// Plain data: files compiled for wider instruction sets include this.
#pragma once

#include <stdint.h>

namespace tidemill {

enum class DType : uint8_t { kF32, kBf16, kInt8 };

// How a row of type kInt8 is quantised (quantized_rows.h).
struct QuantizedForm {
  int32_t group = 0;          // inputs that share a scale; 0: the whole row
  bool nibble_order = false;  // within eight inputs: 0, 4, 1, 5, 2, 6, 3, 7
  // 1: a number is scale * q. 2: 16 bits in two runs, of high and of low bytes.
  int32_t parts = 1;
};

// rows x cols, row-major; row r begins `stride` elements behind row r - 1. bf16 elements are
// uint16_t. Rows start on 64-byte boundaries, and stride is a multiple of 64 bytes, so that kernels
// may read (never write) whole vectors up to the stride; what lies between cols and stride is zero
// when the producer is a kernel. A row of kInt8 is `form.parts` runs of `stride` bytes.
struct Tensor {
  void* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;  // elements
  DType type = DType::kF32;
  QuantizedForm form{};  // of kInt8
};

}  // namespace tidemill

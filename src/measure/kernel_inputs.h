// What kernels are measured with: rows of random numbers, and copies of weights that fill memory.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "parallel/worker_pool.h"

namespace tidemill {

// A tensor that owns its memory, laid out as tensor.h asks.
class OwnedRows {
 public:
  // f32 or bf16, filled with numbers between -1 and 1.
  OwnedRows(const Kernels& kernels, DType type, int64_t rows, int64_t cols,
            std::mt19937_64& random);
  // As the product with `weight` reads them: floats, or integers that `kernels` rounded.
  static OwnedRows inputs_of(const Kernels& kernels, const PackedWeight& weight, int64_t rows,
                             WorkerPool& workers, std::mt19937_64& random);

  const Tensor& view() const { return view_; }

 private:
  OwnedRows(Buffer buffer, const Tensor& view) : buffer_(std::move(buffer)), view_(view) {}
  Buffer buffer_;
  Tensor view_;
};

// Copies of these weights in turn, each on a 4096-byte boundary, until `arena` is full; at least
// one where one fits. Views into `arena`. All originals have one shape and format.
std::vector<PackedWeight> copy_in_turn(std::span<const PackedWeight> originals, Buffer& arena);

}  // namespace tidemill

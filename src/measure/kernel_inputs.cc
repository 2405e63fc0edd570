#include "measure/kernel_inputs.h"

#include <cstring>

#include "base/float16.h"
#include "base/round_up.h"
#include "kernels/element_bytes.h"
#include "kernels/quantized_rows.h"

namespace tidemill {
namespace {

constexpr int64_t kRowAlignment = 64;      // bytes
constexpr int64_t kWeightBoundary = 4096;  // bytes
constexpr size_t kDrawnNumbers = 1 << 16;  // repeated: drawing more would take seconds

Tensor lay_out(const Buffer& buffer, DType type, int64_t rows, int64_t cols) {
  const int64_t bytes = element_bytes(type);
  return {.data = buffer.data(),
          .rows = rows,
          .cols = cols,
          .stride = round_up(cols * bytes, kRowAlignment) / bytes,
          .type = type};
}

size_t bytes_of(DType type, int64_t rows, int64_t cols) {
  return static_cast<size_t>(rows * round_up(cols * element_bytes(type), kRowAlignment));
}

void fill(const Tensor& tensor, std::mt19937_64& random) {
  std::uniform_real_distribution<float> values(-1.0f, 1.0f);
  std::vector<float> drawn(kDrawnNumbers);
  for (float& value : drawn) value = values(random);
  size_t next = 0;
  for (int64_t row = 0; row < tensor.rows; ++row) {
    for (int64_t col = 0; col < tensor.cols; ++col) {
      const int64_t at = row * tensor.stride + col;
      const float value = drawn[next++ % kDrawnNumbers];
      if (tensor.type == DType::kF32) {
        static_cast<float*>(tensor.data)[at] = value;
      } else {
        static_cast<uint16_t*>(tensor.data)[at] = to_bf16(value).bits;
      }
    }
  }
}

}  // namespace

OwnedRows::OwnedRows(const Kernels& kernels, DType type, int64_t rows, int64_t cols,
                     std::mt19937_64& random)
    : buffer_(kernels.allocate(bytes_of(type, rows, cols))),
      view_(lay_out(buffer_, type, rows, cols)) {
  fill(view_, random);
}

OwnedRows OwnedRows::inputs_of(const Kernels& kernels, const PackedWeight& weight, int64_t rows,
                               WorkerPool& workers, std::mt19937_64& random) {
  const bool integer = is_integer(weight.format);
  OwnedRows floats(kernels, integer ? DType::kF32 : input_type(weight.format), rows, weight.k,
                   random);
  if (!integer) return floats;
  const QuantizedForm form = input_form(weight);
  const int64_t stride = quantized_run_bytes(form, weight.k);
  Buffer buffer = kernels.allocate(static_cast<size_t>(rows * form.parts * stride));
  const Tensor view{.data = buffer.data(),
                    .rows = rows,
                    .cols = weight.k,
                    .stride = stride,
                    .type = DType::kInt8,
                    .form = form};
  workers.run([&](Lane& lane) { kernels.quantize(lane, floats.view(), view); });
  return {std::move(buffer), view};
}

std::vector<PackedWeight> copy_in_turn(std::span<const PackedWeight> originals, Buffer& arena) {
  const PackedWeight& first = originals.front();
  const size_t bytes = packed_bytes(first.format, first.n, first.k);
  const auto pitch = static_cast<size_t>(round_up(static_cast<int64_t>(bytes), kWeightBoundary));
  std::vector<PackedWeight> copies;
  auto* data = static_cast<unsigned char*>(arena.data());
  for (size_t at = 0; at + bytes <= arena.bytes(); at += pitch) {
    PackedWeight copy = originals[copies.size() % originals.size()];
    std::memcpy(data + at, copy.data, bytes);
    copy.data = data + at;
    copies.push_back(copy);
  }
  return copies;
}

}  // namespace tidemill

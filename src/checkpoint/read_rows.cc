// Stored numbers as floats. Formulas of the block types: checkpoints.md 8.3 (GGUF).
#include <cstring>
#include <memory>

#include "base/check.h"
#include "base/float16.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/source_file.h"

namespace tidemill {
namespace {

constexpr int64_t kBlock = 32;  // elements of a quantised block

// Files promise no alignment: bytes are copied, never cast.
template <typename T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

float load_f16(const std::byte* bytes) { return to_float(F16{load<uint16_t>(bytes)}); }

int low_nibble(std::byte b) { return std::to_integer<int>(b) & 15; }
int high_nibble(std::byte b) { return std::to_integer<int>(b) >> 4; }

// w = d (q - 8)
void read_q4_0(const std::byte* block, float* out) {
  const float d = load_f16(block);
  for (int i = 0; i < kBlock / 2; ++i) {
    out[i] = d * static_cast<float>(low_nibble(block[2 + i]) - 8);
    out[i + kBlock / 2] = d * static_cast<float>(high_nibble(block[2 + i]) - 8);
  }
}

// w = d q + m
void read_q4_1(const std::byte* block, float* out) {
  const float d = load_f16(block);
  const float m = load_f16(block + 2);
  for (int i = 0; i < kBlock / 2; ++i) {
    out[i] = d * static_cast<float>(low_nibble(block[4 + i])) + m;
    out[i + kBlock / 2] = d * static_cast<float>(high_nibble(block[4 + i])) + m;
  }
}

// w = d q
void read_q8_0(const std::byte* block, float* out) {
  const float d = load_f16(block);
  for (int i = 0; i < kBlock; ++i) {
    out[i] = d * static_cast<float>(std::to_integer<int8_t>(block[2 + i]));
  }
}

struct Reader {
  int64_t elements;  // of a block
  int64_t bytes;
  void (*read)(const std::byte* block, float* out);
};

Reader reader_of(const StoredTensor& tensor) {
  switch (tensor.type) {
    case StoredType::kF32:
      return {1, 4, [](const std::byte* b, float* out) { *out = load<float>(b); }};
    case StoredType::kF16:
      return {1, 2, [](const std::byte* b, float* out) { *out = load_f16(b); }};
    case StoredType::kBf16:
      return {1, 2,
              [](const std::byte* b, float* out) { *out = to_float(Bf16{load<uint16_t>(b)}); }};
    case StoredType::kF64:
      return {1, 8,
              [](const std::byte* b, float* out) { *out = static_cast<float>(load<double>(b)); }};
    case StoredType::kQ4_0:
      return {kBlock, 18, read_q4_0};
    case StoredType::kQ4_1:
      return {kBlock, 20, read_q4_1};
    case StoredType::kQ8_0:
      return {kBlock, 34, read_q8_0};
    default:
      break;
  }
  throw CheckpointError(format("{}: tensor \"{}\": numbers of type {} are not read yet.",
                               tensor.file(), tensor.name, name_of(tensor.type)));
}

}  // namespace

void read_rows(const StoredTensor& tensor, int64_t first_row, int64_t num_rows, float* out) {
  const Reader reader = reader_of(tensor);
  const int64_t columns = tensor.shape.empty() ? 1 : tensor.shape.back();
  const int64_t row_bytes = columns / reader.elements * reader.bytes;
  CHECK(first_row >= 0 && num_rows >= 0 &&
            (first_row + num_rows) * row_bytes <= static_cast<int64_t>(tensor.bytes),
        "rows {} to {} of tensor {} with {} bytes", first_row, first_row + num_rows, tensor.name,
        tensor.bytes);
  const auto bytes = static_cast<size_t>(num_rows * row_bytes);
  const auto stored = std::make_unique_for_overwrite<std::byte[]>(bytes);
  tensor.source->read(tensor.offset + static_cast<uint64_t>(first_row * row_bytes),
                      {stored.get(), bytes});
  const int64_t blocks = num_rows * (columns / reader.elements);
  for (int64_t i = 0; i < blocks; ++i) {
    reader.read(stored.get() + i * reader.bytes, out + i * reader.elements);
  }
}

}  // namespace tidemill

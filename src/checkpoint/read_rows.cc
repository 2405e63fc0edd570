// Stored numbers as floats, or as the integers that a block holds.
#include <cstring>
#include <memory>

#include "base/check.h"
#include "base/float16.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_blocks.h"
#include "checkpoint/source_file.h"

namespace tidemill {
namespace {

// Files promise no alignment: bytes are copied, never cast.
template <typename T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

struct Reader {
  int64_t numbers;  // of a block
  int64_t bytes;
  void (*read)(const std::byte* block, float* out);
};

Reader reader_of(const StoredTensor& tensor) {
  if (const GgufBlock* block = gguf_block(tensor.type)) {
    return {block->numbers, block->bytes, block->read};
  }
  switch (tensor.type) {
    case StoredType::kF32:
      return {1, 4, [](const std::byte* b, float* out) { *out = load<float>(b); }};
    case StoredType::kF16:
      return {1, 2,
              [](const std::byte* b, float* out) { *out = to_float(F16{load<uint16_t>(b)}); }};
    case StoredType::kBf16:
      return {1, 2,
              [](const std::byte* b, float* out) { *out = to_float(Bf16{load<uint16_t>(b)}); }};
    case StoredType::kF64:
      return {1, 8,
              [](const std::byte* b, float* out) { *out = static_cast<float>(load<double>(b)); }};
    default:
      break;
  }
  throw CheckpointError(format("{}: tensor \"{}\": numbers of type {} are not read yet.",
                               tensor.file(), tensor.name, name_of(tensor.type)));
}

// The blocks of whole rows, as they stand in the file.
struct RawRows {
  std::unique_ptr<std::byte[]> bytes;
  int64_t num_blocks = 0;
};

RawRows read_raw(const StoredTensor& tensor, int64_t first_row, int64_t num_rows,
                 int64_t block_numbers, int64_t block_bytes) {
  const int64_t columns = tensor.shape.empty() ? 1 : tensor.shape.back();
  const int64_t row_bytes = columns / block_numbers * block_bytes;
  CHECK(first_row >= 0 && num_rows >= 0 &&
            (first_row + num_rows) * row_bytes <= static_cast<int64_t>(tensor.bytes),
        "rows {} to {} of tensor {} with {} bytes", first_row, first_row + num_rows, tensor.name,
        tensor.bytes);
  const auto bytes = static_cast<size_t>(num_rows * row_bytes);
  RawRows rows{.bytes = std::make_unique_for_overwrite<std::byte[]>(bytes),
               .num_blocks = num_rows * (columns / block_numbers)};
  tensor.source->read(tensor.offset + static_cast<uint64_t>(first_row * row_bytes),
                      {rows.bytes.get(), bytes});
  return rows;
}

}  // namespace

void read_rows(const StoredTensor& tensor, int64_t first_row, int64_t num_rows, float* out) {
  const Reader reader = reader_of(tensor);
  const RawRows rows = read_raw(tensor, first_row, num_rows, reader.numbers, reader.bytes);
  for (int64_t i = 0; i < rows.num_blocks; ++i) {
    reader.read(rows.bytes.get() + i * reader.bytes, out + i * reader.numbers);
  }
}

void read_blocks(const StoredTensor& tensor, int64_t first_row, int64_t num_rows,
                 std::vector<StoredBlock>& out) {
  const GgufBlock* block = gguf_block(tensor.type);
  CHECK(block != nullptr && block->unpack != nullptr, "blocks of a tensor of {}",
        name_of(tensor.type));
  const RawRows rows = read_raw(tensor, first_row, num_rows, block->numbers, block->bytes);
  out.assign(static_cast<size_t>(rows.num_blocks), {});
  for (int64_t i = 0; i < rows.num_blocks; ++i) {
    block->unpack(rows.bytes.get() + i * block->bytes, out[static_cast<size_t>(i)]);
  }
}

}  // namespace tidemill

#include "compiler/integer_rows.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "base/check.h"
#include "base/float16.h"

namespace tidemill {
namespace {

[[noreturn]] void fail(const MappedTensor& tensor, const TensorPart& part, std::string_view what) {
  throw CheckpointError(
      format("{}: tensor \"{}\" {}, and cannot become {}. Use dtype=bf16 without quantize.",
             part.stored->file(), part.stored->name, what, name_of(tensor.target.format)));
}

bool is_half(float value) { return std::isfinite(value) && to_float(to_f16(value)) == value; }

void append_zeros(const MappedTensor& tensor, RoundedRows& rows) {
  const EngineTensor& target = tensor.target;
  const auto groups = static_cast<size_t>(num_groups(target.format, target.k));
  rows.q.resize(rows.q.size() + static_cast<size_t>(target.k));
  rows.scales.resize(rows.scales.size() + groups);
  rows.offsets.resize(rows.offsets.size() + groups);
}

// w = scale (q - zero) + offset, as the format says it.
void append_block(const MappedTensor& tensor, const TensorPart& part, const BlockFacts& facts,
                  const StoredBlock& block, RoundedRows& rows) {
  const PackedFormat& format = tensor.target.format;
  const bool shifts = format.offsets == Offsets::kNone && format.numbers == Numbers::kInt8;
  const int shift = shifts ? 128 - facts.zero : 0;
  for (const uint8_t q : block.q) rows.q.push_back(static_cast<uint8_t>(q + shift));
  const float offset = format.offsets == Offsets::kNone
                           ? 0.0f
                           : block.offset - block.scale * static_cast<float>(facts.zero);
  if (!is_half(block.scale) || !is_half(offset)) {
    fail(tensor, part, "holds a scale that is NaN, infinite or too large");
  }
  rows.scales.push_back(block.scale);
  rows.offsets.push_back(offset);
}

void append_stored(const MappedTensor& tensor, const ChannelSource& source, RoundedRows& rows) {
  const EngineTensor& target = tensor.target;
  CHECK(source.part->columns == target.k, "{} of {} columns in blocks", source.part->columns,
        target.k);
  std::vector<StoredBlock> blocks;
  read_blocks(*source.part->stored, source.row, 1, blocks);
  const BlockFacts facts = *block_facts(source.part->stored->type);
  for (const StoredBlock& block : blocks) append_block(tensor, *source.part, facts, block, rows);
  // K may be padded by a whole group.
  const auto missing = static_cast<size_t>(num_groups(target.format, target.k)) - blocks.size();
  rows.scales.resize(rows.scales.size() + missing);
  rows.offsets.resize(rows.offsets.size() + missing);
}

void append_rounded(const MappedTensor& tensor, const ChannelSource& source, RoundedRows& rows) {
  const EngineTensor& target = tensor.target;
  std::vector<float> numbers(static_cast<size_t>(target.k));
  read_rows(*source.part->stored, source.row, 1, numbers.data());
  if (!std::ranges::all_of(numbers, [](float number) { return std::isfinite(number); })) {
    fail(tensor, *source.part, "holds numbers that are NaN or infinite");
  }
  const RoundedRows rounded = round_rows(target.format, target.k, numbers);
  rows.q.insert(rows.q.end(), rounded.q.begin(), rounded.q.end());
  rows.scales.insert(rows.scales.end(), rounded.scales.begin(), rounded.scales.end());
  rows.offsets.insert(rows.offsets.end(), rounded.offsets.begin(), rounded.offsets.end());
}

}  // namespace

RoundedRows integer_rows(const MappedTensor& tensor, int64_t first, int64_t count) {
  RoundedRows rows{.num_rows = count, .q = {}, .scales = {}, .offsets = {}};
  for (int64_t i = 0; i < count; ++i) {
    const ChannelSource source = source_of(tensor, first + i);
    if (source.part == nullptr) {
      append_zeros(tensor, rows);
    } else if (keeps_integers(tensor.target.format, source.part->stored->type)) {
      append_stored(tensor, source, rows);
    } else {
      append_rounded(tensor, source, rows);
    }
  }
  return rows;
}

}  // namespace tidemill

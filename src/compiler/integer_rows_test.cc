#include "compiler/integer_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <list>
#include <random>
#include <string>

#include "base/float16.h"
#include "checkpoint/source_file.h"

namespace tidemill {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

constexpr int64_t kColumns = 96;  // integers are packed with a group of padding behind it
constexpr int64_t kRows = 3;      // of a part

struct BlockForm {
  StoredType type;
  int64_t bytes;  // of 32 numbers
  bool has_offset;
};
constexpr BlockForm kQ4_0{StoredType::kQ4_0, 18, false};
constexpr BlockForm kQ4_1{StoredType::kQ4_1, 20, true};
constexpr BlockForm kQ5_0{StoredType::kQ5_0, 22, false};
constexpr BlockForm kQ5_1{StoredType::kQ5_1, 24, true};
constexpr BlockForm kQ8_0{StoredType::kQ8_0, 34, false};

// A tensor of ours whose parts are made up in memory.
class TensorOfParts {
 public:
  void add_blocks(const BlockForm& form, float scale = 0.25f) {
    std::vector<std::byte> bytes(static_cast<size_t>(kRows * kColumns / 32 * form.bytes));
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random_());
    for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(form.bytes)) {
      write_half(bytes, at, scale);
      if (form.has_offset) write_half(bytes, at + 2, -2.0f * scale);
    }
    add(form.type, std::move(bytes));
  }
  void add_floats(const std::vector<float>& values) {
    std::vector<std::byte> bytes(values.size() * sizeof(float));
    std::memcpy(bytes.data(), values.data(), bytes.size());
    add(StoredType::kF32, std::move(bytes));
  }

  MappedTensor mapped(const PackedFormat& format) const {
    MappedTensor tensor{.target = {.name = "layers.0.qkv", .format = format, .k = kColumns}};
    for (const StoredTensor& part : stored_) {
      tensor.parts.push_back({.stored = &part, .rows = kRows, .columns = kColumns});
      tensor.target.n += kRows;
    }
    return tensor;
  }
  PackedFormat format_as_stored() const {
    std::vector<StoredType> types;
    for (const StoredTensor& part : stored_) types.push_back(part.type);
    return tidemill::format_as_stored(types);
  }

  // What the file says.
  std::vector<float> numbers() const {
    std::vector<float> numbers(stored_.size() * kRows * kColumns);
    float* out = numbers.data();
    for (const StoredTensor& part : stored_) {
      read_rows(part, 0, kRows, out);
      out += kRows * kColumns;
    }
    return numbers;
  }

 private:
  static void write_half(std::vector<std::byte>& bytes, size_t at, float value) {
    const F16 half = to_f16(value);
    std::memcpy(bytes.data() + at, &half.bits, sizeof half.bits);
  }
  void add(StoredType type, std::vector<std::byte> bytes) {
    const uint64_t size = bytes.size();
    const SourceFile& source = sources_.emplace_back(std::move(bytes), "f");
    stored_.push_back({.name = "part" + std::to_string(stored_.size()),
                       .type = type,
                       .shape = {kRows, kColumns},
                       .source = &source,
                       .offset = 0,
                       .bytes = size});
  }

  std::mt19937 random_{5};
  std::list<SourceFile> sources_;  // lists: what points into them stays
  std::list<StoredTensor> stored_;
};

// What a kernel finds in the panel.
std::vector<float> packed(const MappedTensor& tensor) {
  const EngineTensor& target = tensor.target;
  std::vector<unsigned char> panel(panel_bytes(target.format, target.k));
  pack_panel(target.format, target.k, integer_rows(tensor, 0, target.n).rows(), panel.data());
  const PackedWeight weight{
      .format = target.format, .n = target.n, .k = target.k, .data = panel.data()};
  std::vector<float> numbers(static_cast<size_t>(target.n * target.k));
  for (int64_t n = 0; n < target.n; ++n) unpack_row(weight, n, numbers.data() + n * target.k);
  return numbers;
}

std::string refusal(const MappedTensor& tensor) {
  try {
    integer_rows(tensor, 0, tensor.target.n);
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(FormatAsStored, HoldsTheNumbersOfEveryPart) {
  using enum StoredType;
  const auto of = [](std::vector<StoredType> parts) { return format_as_stored(parts); };
  constexpr PackedFormat kInt4{Numbers::kInt4, Offsets::kNone, 32};
  constexpr PackedFormat kInt4Offset{Numbers::kInt4, Offsets::kOffset, 32};
  constexpr PackedFormat kInt8{Numbers::kInt8, Offsets::kNone, 32};
  constexpr PackedFormat kInt8Offset{Numbers::kInt8, Offsets::kOffset, 32};
  EXPECT_EQ(of({kQ4_0}), kInt4);
  EXPECT_EQ(of({kQ4_0, kQ4_1}), kInt4Offset);
  EXPECT_EQ(of({kQ5_0}), kInt8);
  EXPECT_EQ(of({kQ5_1}), kInt8Offset);
  EXPECT_EQ(of({kQ8_0, kQ4_1}), kInt8Offset);
  for (const StoredType type : {kQ2K, kQ3K, kQ4K, kQ5K, kQ6K}) EXPECT_EQ(of({type}), kInt8);
  EXPECT_EQ(of({kQ4_1, kQ6K}), kInt8) << "what is rounded has no offset";
  EXPECT_EQ(of({kQ8_0, kF16}), PackedFormat::kBf16);
  EXPECT_EQ(of({}), PackedFormat::kBf16);
}

TEST(IntegerRows, AreThoseOfTheFile) {
  for (const BlockForm& form : {kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0}) {
    TensorOfParts tensor;
    tensor.add_blocks(form);
    EXPECT_EQ(packed(tensor.mapped(tensor.format_as_stored())), tensor.numbers())
        << name_of(form.type);
  }
}

TEST(IntegerRows, OfPartsThatDifferAreStillThoseOfTheFile) {
  const std::vector<std::vector<BlockForm>> mixes = {
      {kQ4_0, kQ4_1}, {kQ4_0, kQ5_0, kQ8_0}, {kQ8_0, kQ5_1}, {kQ4_1, kQ5_0}};
  for (const std::vector<BlockForm>& mix : mixes) {
    TensorOfParts tensor;
    for (const BlockForm& form : mix) tensor.add_blocks(form);
    EXPECT_EQ(packed(tensor.mapped(tensor.format_as_stored())), tensor.numbers())
        << name_of(mix[0].type) << " and " << name_of(mix[1].type);
  }
}

// quantize=int8_g32 of a file with 4 or 8 bits loses nothing; other groups round a second time.
TEST(IntegerRows, AreKeptWhereAFormatThatIsAskedForHoldsThem) {
  constexpr PackedFormat kInt8{Numbers::kInt8, Offsets::kNone, 32};
  for (const BlockForm& form : {kQ4_0, kQ5_0, kQ8_0}) {
    EXPECT_TRUE(keeps_integers(kInt8, form.type));
    TensorOfParts tensor;
    tensor.add_blocks(form);
    EXPECT_EQ(packed(tensor.mapped(kInt8)), tensor.numbers()) << name_of(form.type);
  }
  EXPECT_FALSE(keeps_integers(kInt8, StoredType::kQ4_1));
  EXPECT_FALSE(keeps_integers({Numbers::kInt8, Offsets::kNone, 64}, StoredType::kQ8_0));
  EXPECT_FALSE(keeps_integers({Numbers::kInt4, Offsets::kNone, 32}, StoredType::kQ8_0));
  EXPECT_FALSE(keeps_integers({Numbers::kInt4, Offsets::kZero, 32}, StoredType::kQ4_0));
  EXPECT_FALSE(keeps_integers(PackedFormat::kBf16, StoredType::kQ4_0));
  EXPECT_FALSE(keeps_integers(kInt8, StoredType::kQ6K));
}

TEST(IntegerRows, AreRoundedWhereTheFileHasNoneThatFit) {
  TensorOfParts tensor;
  tensor.add_blocks(kQ4_1);
  tensor.add_floats(std::vector<float>(kRows * kColumns, 1.0f));
  const std::vector<float> expected = tensor.numbers();
  const std::vector<float> numbers =
      packed(tensor.mapped({Numbers::kInt8, Offsets::kNone, kStoredBlock}));
  for (size_t i = 0; i < numbers.size(); ++i) {
    ASSERT_NEAR(numbers[i], expected[i], 15 * 0.25f / 127) << i;  // half a step, and f16's rounding
  }
  EXPECT_NE(numbers, expected);
}

TEST(IntegerRows, OfPaddingAreZero) {
  TensorOfParts parts;
  parts.add_blocks(kQ4_1);
  parts.add_blocks(kQ4_1);
  MappedTensor tensor = parts.mapped(parts.format_as_stored());
  tensor.arrangement = Arrangement::kAlternatingPanels;  // 16 rows of each, of which 13 are padding
  const RoundedRows rows = integer_rows(tensor, kRows, 16 - kRows);
  EXPECT_EQ(rows.num_rows, 16 - kRows);
  EXPECT_THAT(rows.q, AllOf(testing::SizeIs((16 - kRows) * kColumns), Each(0)));
  EXPECT_THAT(rows.scales, AllOf(testing::SizeIs((16 - kRows) * 4), Each(0.0f)));
  EXPECT_THAT(rows.offsets, Each(0.0f));
}

TEST(IntegerRows, ThatCannotBeComputedWithAreRefusedByName) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  TensorOfParts broken;
  broken.add_blocks(kQ8_0);
  broken.add_blocks(kQ4_0, kInfinity);
  EXPECT_THAT(refusal(broken.mapped(broken.format_as_stored())),
              AllOf(HasSubstr("f: tensor \"part1\" holds a scale that is NaN, infinite"),
                    HasSubstr("cannot become int8_g32. Use dtype=bf16 without quantize.")));
  // 128 times the scale is the offset of signed bytes: beyond f16 here.
  TensorOfParts large;
  large.add_blocks(kQ8_0, 1000.0f);
  EXPECT_EQ(refusal(large.mapped(large.format_as_stored())), "accepted");
  large.add_blocks(kQ5_1);
  EXPECT_THAT(refusal(large.mapped(large.format_as_stored())), HasSubstr("too large"));

  TensorOfParts floats;
  floats.add_floats(std::vector<float>(kRows * kColumns, std::nanf("")));
  EXPECT_THAT(refusal(floats.mapped(PackedFormat::kInt8PerChannel)),
              HasSubstr("holds numbers that are NaN or infinite"));
}

}  // namespace
}  // namespace tidemill

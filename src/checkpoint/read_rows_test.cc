// Stored numbers as floats, held against the definitions of their formats.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "checkpoint/test_files.h"

namespace tidemill {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// One row behind a byte that is not ours: nothing in a file is aligned.
std::vector<float> read(StoredType type, std::vector<int64_t> shape, std::string_view data) {
  const SourceFile source(bytes_of("x" + std::string(data)), "f");
  const int64_t rows = shape.size() == 2 ? shape[0] : 1;
  const StoredTensor tensor{.name = "t",
                            .type = type,
                            .shape = shape,
                            .source = &source,
                            .offset = 1,
                            .bytes = data.size()};
  std::vector<float> out(static_cast<size_t>(rows * (shape.empty() ? 1 : shape.back())));
  read_rows(tensor, 0, rows, out.data());
  return out;
}

std::string halves(std::initializer_list<uint16_t> values) {
  std::string text;
  for (const uint16_t value : values) text += little_endian(value);
  return text;
}

// What sign, exponent and fraction of a 16-bit float mean.
double meaning_of_f16(uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int fraction = bits & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

TEST(ReadRows, F32IsKeptBitForBit) {
  const std::string data = little_endian(1.5f) + little_endian(-0.0f) + little_endian(1e-45f) +
                           little_endian(std::numeric_limits<float>::quiet_NaN());
  const std::vector<float> row = read(StoredType::kF32, {4}, data);
  EXPECT_EQ(row[0], 1.5f);
  EXPECT_TRUE(std::signbit(row[1]));
  EXPECT_EQ(row[2], 1e-45f);
  EXPECT_TRUE(std::isnan(row[3]));
}

TEST(ReadRows, F64IsRoundedToTheNearestFloat) {
  const double above_one = 1.0 + 0x1p-24;  // half way: to even
  EXPECT_THAT(
      read(StoredType::kF64, {3},
           little_endian(0.1) + little_endian(above_one) + little_endian(above_one + 0x1p-50)),
      ElementsAre(0.1f, 1.0f, 1.0f + 0x1p-23f));
}

TEST(ReadRows, EveryF16IsItsDefinition) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    if ((bits & 0x7c00) == 0x7c00) continue;  // infinity, NaN: below
    const float value = read(StoredType::kF16, {1}, halves({static_cast<uint16_t>(bits)}))[0];
    ASSERT_EQ(value, meaning_of_f16(static_cast<uint16_t>(bits))) << bits;
    ASSERT_EQ(std::signbit(value), bits >= 0x8000) << bits;
  }
  const auto special = read(StoredType::kF16, {3}, halves({0x7c00, 0xfc00, 0x7e01}));
  EXPECT_EQ(special[0], std::numeric_limits<float>::infinity());
  EXPECT_EQ(special[1], -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(special[2]));
}

TEST(ReadRows, EveryBf16IsTheUpperHalfOfAFloat) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = read(StoredType::kBf16, {1}, halves({static_cast<uint16_t>(bits)}))[0];
    ASSERT_EQ(std::bit_cast<uint32_t>(value), bits << 16);
  }
}

TEST(ReadRows, Q4_0IsAScaleTimesNibblesFromMinus8To7) {
  // The format's own example: d = 0.5, first byte 0x3A.
  std::string block = halves({0x3800}) + "\x3A" + std::string(15, '\x88');
  const std::vector<float> row = read(StoredType::kQ4_0, {32}, block);
  EXPECT_EQ(row[0], 1.0f) << "the low nibble, 10";
  EXPECT_EQ(row[16], -2.5f) << "the high nibble, 3";
  for (const int i : {1, 15, 17, 31}) EXPECT_EQ(row[static_cast<size_t>(i)], 0.0f) << i;
}

TEST(ReadRows, Q4_1IsAScaleTimesNibblesPlusAMinimum) {
  std::string block = halves({0x3800, 0xbc00});  // d = 0.5, m = -1
  for (int i = 0; i < 16; ++i) block += static_cast<char>(i | (15 - i) << 4);
  const std::vector<float> row = read(StoredType::kQ4_1, {32}, block);
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(row[static_cast<size_t>(i)], 0.5f * static_cast<float>(i) - 1.0f) << i;
    EXPECT_EQ(row[static_cast<size_t>(i + 16)], 0.5f * static_cast<float>(15 - i) - 1.0f) << i;
  }
}

TEST(ReadRows, Q4_1RoundsTheProductAndThenTheSum) {
  // d q = 1.333984375 * 15 needs no more than 24 bits, so the sum with 2^-24 is the one rounding.
  const std::string block = halves({0x3d56, 0x0001}) + std::string(16, '\xff');
  const float d = 1.333984375f;
  EXPECT_EQ(read(StoredType::kQ4_1, {32}, block)[0], d * 15.0f + 0x1p-24f);
}

TEST(ReadRows, Q8_0IsAScaleTimesSignedBytes) {
  std::string block = halves({0x2e66});  // 0.0999755859375
  for (int i = 0; i < 32; ++i) block += static_cast<char>(i * 8 - 128);
  const std::vector<float> row = read(StoredType::kQ8_0, {32}, block);
  for (int i = 0; i < 32; ++i) {
    EXPECT_EQ(row[static_cast<size_t>(i)], 0.0999755859375f * static_cast<float>(i * 8 - 128)) << i;
  }
}

// The formats' own example: qh = 0x00010001, first byte 0x21.
TEST(ReadRows, Q5HasItsFifthBitsInAWordOfTheirOwn) {
  const std::string word = little_endian(uint32_t{0x00010001});
  const std::string nibbles = "\x21" + std::string(15, '\0');
  const auto q5_0 = read(StoredType::kQ5_0, {32}, halves({0x3800}) + word + nibbles);
  EXPECT_EQ(q5_0[0], 0.5f * 1.0f) << "17 - 16";
  EXPECT_EQ(q5_0[16], 0.5f * 2.0f) << "18 - 16";
  EXPECT_EQ(q5_0[1], 0.5f * -16.0f);
  const auto q5_1 = read(StoredType::kQ5_1, {32}, halves({0x3800, 0xbc00}) + word + nibbles);
  EXPECT_EQ(q5_1[0], 0.5f * 17.0f - 1.0f);
  EXPECT_EQ(q5_1[16], 0.5f * 18.0f - 1.0f);
  EXPECT_EQ(q5_1[1], -1.0f);
}

// The packed pairs that the format's description gives: scale and minimum of eight parts.
TEST(ReadRows, Q4KHasSixBitScalesAndMinima) {
  std::string block = halves({0x3c00, 0x3c00});  // d = dmin = 1
  for (const int byte : {0x89, 0x90, 0xD7, 0xDE, 0x14, 0x1F, 0x6A, 0xB5, 0x05, 0xBC, 0x63, 0x1A}) {
    block += static_cast<char>(byte);
  }
  block += std::string(128, '\x11');  // every q is 1
  const std::vector<float> row = read(StoredType::kQ4K, {256}, block);
  constexpr float kScales[] = {9, 16, 23, 30, 37, 44, 51, 58};
  constexpr float kMinima[] = {20, 31, 42, 53, 0, 11, 22, 33};
  for (size_t i = 0; i < 256; ++i) {
    ASSERT_EQ(row[i], kScales[i / 32] - kMinima[i / 32]) << i;
  }
}

TEST(ReadRows, BlocksAreTheNumbersBeforeTheyAreMultiplied) {
  std::mt19937 random(8);
  struct Form {
    StoredType type;
    int64_t block_bytes;
  };
  for (const Form form :
       {Form{StoredType::kQ4_0, 18}, Form{StoredType::kQ4_1, 20}, Form{StoredType::kQ5_0, 22},
        Form{StoredType::kQ5_1, 24}, Form{StoredType::kQ8_0, 34}}) {
    std::vector<std::byte> bytes(static_cast<size_t>(6 * form.block_bytes));
    for (std::byte& b : bytes) b = static_cast<std::byte>(random() % 0x70);
    const SourceFile source(bytes, "f");
    const StoredTensor tensor{.name = "t",
                              .type = form.type,
                              .shape = {2, 96},
                              .source = &source,
                              .offset = 0,
                              .bytes = bytes.size()};
    std::vector<float> row(96);
    read_rows(tensor, 1, 1, row.data());
    std::vector<StoredBlock> blocks;
    read_blocks(tensor, 1, 1, blocks);
    ASSERT_EQ(blocks.size(), 3u);
    const BlockFacts facts = *block_facts(form.type);
    for (size_t i = 0; i < 96; ++i) {
      const StoredBlock& block = blocks[i / 32];
      ASSERT_LT(block.q[i % 32], 1 << facts.bits);
      const auto q = static_cast<float>(block.q[i % 32] - facts.zero);
      ASSERT_EQ(block.scale * q + block.offset, row[i]);
      ASSERT_TRUE(facts.has_offsets || block.offset == 0.0f);
    }
  }
  EXPECT_FALSE(block_facts(StoredType::kQ4K));
  EXPECT_FALSE(is_block(StoredType::kF16));
}

TEST(ReadRows, RowsInTheMiddleAreThoseOfTheWholeMatrix) {
  struct Form {
    StoredType type;
    int64_t block_bytes;
  };
  std::mt19937 random(7);
  for (const Form form :
       {Form{StoredType::kF32, 128}, Form{StoredType::kF16, 64}, Form{StoredType::kBf16, 64},
        Form{StoredType::kF64, 256}, Form{StoredType::kQ4_0, 18}, Form{StoredType::kQ4_1, 20},
        Form{StoredType::kQ5_0, 22}, Form{StoredType::kQ5_1, 24}, Form{StoredType::kQ8_0, 34}}) {
    constexpr int64_t kRows = 5;
    constexpr int64_t kColumns = 96;
    std::vector<std::byte> bytes(static_cast<size_t>(kRows * kColumns / 32 * form.block_bytes));
    for (std::byte& b : bytes) b = static_cast<std::byte>(random() % 0x70);  // no infinities
    const SourceFile source(bytes, "f");
    const StoredTensor tensor{.name = "t",
                              .type = form.type,
                              .shape = {kRows, kColumns},
                              .source = &source,
                              .bytes = source.size()};
    std::vector<float> whole(kRows * kColumns);
    std::vector<float> part(2 * kColumns);
    read_rows(tensor, 0, kRows, whole.data());
    read_rows(tensor, 3, 2, part.data());
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 3 * kColumns))
        << name_of(form.type);
    read_rows(tensor, kRows, 0, nullptr);  // no rows are none
  }
}

TEST(ReadRows, AScalarIsOneRowOfOne) {
  EXPECT_THAT(read(StoredType::kF32, {}, little_endian(2.0f)), ElementsAre(2.0f));
}

TEST(ReadRows, NumbersThatAreNotReadYetAreRefusedByName) {
  for (const StoredType type :
       {StoredType::kBool, StoredType::kU8, StoredType::kI8, StoredType::kI16, StoredType::kU16,
        StoredType::kI32, StoredType::kU32, StoredType::kI64, StoredType::kU64, StoredType::kF8E4M3,
        StoredType::kF8E5M2}) {
    EXPECT_THAT(
        refusal_of([&] { read(type, {1}, "12345678"); }),
        HasSubstr(format("f: tensor \"t\": numbers of type {} are not read", name_of(type))));
  }
}

}  // namespace
}  // namespace tidemill

#include "compiler/round_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>

#include "base/float16.h"

namespace tidemill {
namespace {

constexpr PackedFormat kFormats[] = {PackedFormat::kInt8PerChannel,
                                     {Numbers::kInt8, Offsets::kNone, 32},
                                     {Numbers::kInt8, Offsets::kZero, 128},
                                     {Numbers::kInt4, Offsets::kNone, 64},
                                     {Numbers::kInt4, Offsets::kZero, 32}};

std::vector<float> random_rows(int64_t rows, int64_t k) {
  std::mt19937_64 random(3);
  std::normal_distribution<float> values;
  std::vector<float> numbers(static_cast<size_t>(rows * k));
  for (float& number : numbers) number = values(random);
  return numbers;
}

// The numbers that a panel of the rounded rows holds.
std::vector<float> back(const PackedFormat& format, int64_t k, const RoundedRows& rounded) {
  std::vector<unsigned char> panel(panel_bytes(format, k));
  pack_panel(format, k, rounded.rows(), panel.data());
  const PackedWeight weight{.format = format, .n = rounded.num_rows, .k = k, .data = panel.data()};
  std::vector<float> numbers(static_cast<size_t>(rounded.num_rows * k));
  for (int64_t n = 0; n < rounded.num_rows; ++n) unpack_row(weight, n, numbers.data() + n * k);
  return numbers;
}

TEST(RoundWeights, NumbersComeBackWithinHalfAStep) {
  for (const PackedFormat& format : kFormats) {
    for (const int64_t k : {1, 64, 200, 576}) {
      const std::vector<float> rows = random_rows(5, k);
      const RoundedRows rounded = round_rows(format, k, rows);
      const std::vector<float> numbers = back(format, k, rounded);
      const int64_t groups = num_groups(format, k);
      for (int64_t i = 0; i < 5 * k; ++i) {
        const int64_t group = i / k * groups + (format.group == 0 ? 0 : i % k / format.group);
        const float step = rounded.scales[static_cast<size_t>(group)];
        // The range ends within a step: symmetric codes have one more below than above, and an f16
        // scale may be a little small.
        const float allowed = format.offsets == Offsets::kNone ? 0.56f : 0.51f;
        ASSERT_LE(std::fabs(numbers[static_cast<size_t>(i)] - rows[static_cast<size_t>(i)]),
                  allowed * step);
      }
    }
  }
}

// As the reference rounds: scale = 2 max / 15 and 8 in the middle; int8 by max / 127.
TEST(RoundWeights, FollowsTheStatedRules) {
  std::vector<float> row(32, 0.0f);
  row[0] = -1.5f;
  row[1] = 0.75f;
  const RoundedRows int4 = round_rows({Numbers::kInt4, Offsets::kNone, 32}, 32, row);
  EXPECT_EQ(int4.scales[0], to_float(to_f16(3.0f / 15.0f)));
  EXPECT_EQ(int4.q[0], 0);   // -7.5 rounds to -8
  EXPECT_EQ(int4.q[1], 12);  // 3.75 rounds to 4
  EXPECT_EQ(int4.q[2], 8);
  const RoundedRows zero = round_rows({Numbers::kInt4, Offsets::kZero, 32}, 32, row);
  EXPECT_EQ(zero.scales[0], to_float(to_f16(2.25f / 15.0f)));
  EXPECT_EQ(zero.offsets[0], 10.0f);
  EXPECT_EQ(zero.q[0], 0);
  EXPECT_EQ(zero.q[1], 15);
  const RoundedRows int8 = round_rows(PackedFormat::kInt8PerChannel, 32, row);
  EXPECT_EQ(int8.scales[0], 1.5f / 127.0f);
  EXPECT_EQ(int8.q[0], 1);
  EXPECT_EQ(int8.q[1], 128 + 64);  // 63.5 to even
}

TEST(RoundWeights, NothingAtAllIsZero) {
  for (const PackedFormat& format : kFormats) {
    const std::vector<float> rows(200, 0.0f);
    for (const float number : back(format, 200, round_rows(format, 200, rows))) {
      ASSERT_EQ(number, 0.0f);
    }
  }
}

TEST(RoundWeights, ScalesThatNoHalfCanHoldAreRefused) {
  const std::vector<float> rows(64, 1e7f);
  EXPECT_THROW(round_rows({Numbers::kInt8, Offsets::kNone, 32}, 64, rows), std::runtime_error);
  EXPECT_NO_THROW(round_rows(PackedFormat::kInt8PerChannel, 64, rows));
  const std::vector<float> tiny(64, 1e-9f);
  const auto numbers = back({Numbers::kInt8, Offsets::kNone, 32}, 64,
                            round_rows({Numbers::kInt8, Offsets::kNone, 32}, 64, tiny));
  EXPECT_LE(std::fabs(numbers[0]), 0x1p-24f);
}

}  // namespace
}  // namespace tidemill

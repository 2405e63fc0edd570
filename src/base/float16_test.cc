#include "base/float16.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace tidemill {
namespace {

TEST(Bf16, EveryValueSurvivesTheWayThroughFloat) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const Bf16 value{static_cast<uint16_t>(bits)};
    const float wide = to_float(value);
    if (std::isnan(wide)) {
      EXPECT_TRUE(std::isnan(to_float(to_bf16(wide))));
    } else {
      ASSERT_EQ(to_bf16(wide), value) << bits;
    }
  }
}

TEST(Bf16, RoundsToTheNearestAndTiesToEven) {
  EXPECT_EQ(to_bf16(std::bit_cast<float>(0x3f808000u)).bits, 0x3f80);  // a tie, down to even
  EXPECT_EQ(to_bf16(std::bit_cast<float>(0x3f818000u)).bits, 0x3f82);  // a tie, up to even
  EXPECT_EQ(to_bf16(std::bit_cast<float>(0x3f808001u)).bits, 0x3f81);
  EXPECT_EQ(to_bf16(std::numeric_limits<float>::max()).bits, 0x7f80);  // infinity
  std::mt19937 random(3);
  for (int i = 0; i < 100'000; ++i) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(random() & 0x7effffffu));
    const float rounded = to_float(to_bf16(value));
    const double below = std::abs(double{rounded} - value);
    const uint16_t bits = to_bf16(value).bits;
    for (const int step : {-1, 1}) {
      const float other = to_float(Bf16{static_cast<uint16_t>(bits + step)});
      if (!std::isfinite(other) || bits == 0) continue;
      ASSERT_LE(below, std::abs(double{other} - value));
    }
  }
}

TEST(Bf16, ANanStaysOneWhateverItsBits) {
  EXPECT_TRUE(std::isnan(to_float(to_bf16(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_TRUE(std::isnan(to_float(to_bf16(std::bit_cast<float>(0xffffffffu)))));
}

TEST(F16, EveryValueIsItsSignExponentAndFraction) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const int exponent = static_cast<int>((bits >> 10) & 0x1f);
    const int fraction = static_cast<int>(bits & 0x3ff);
    const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
    const float value = to_float(F16{static_cast<uint16_t>(bits)});
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(value), fraction != 0);
      EXPECT_EQ(std::isinf(value), fraction == 0);
      continue;
    }
    const double expected =
        exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    ASSERT_EQ(value, sign * expected) << bits;
    ASSERT_EQ(std::signbit(value), sign < 0) << bits;
  }
}

TEST(F16, EveryValueComesBackAndWhatLiesBetweenRoundsToNearestEven) {
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const float value = to_float(F16{static_cast<uint16_t>(bits)});
    ASSERT_EQ(to_f16(value).bits, bits);
    ASSERT_EQ(to_f16(-value).bits, bits | 0x8000u);
    const float next =
        bits + 1 == 0x7c00 ? 65536.0f : to_float(F16{static_cast<uint16_t>(bits + 1)});
    const float middle = value + (next - value) / 2.0f;
    ASSERT_EQ(to_f16(std::nextafter(middle, 0.0f)).bits, bits);
    ASSERT_EQ(to_f16(middle).bits, (bits & 1u) == 0 ? bits : bits + 1);
    ASSERT_EQ(to_f16(std::nextafter(middle, 1e9f)).bits, bits + 1);
  }
  EXPECT_EQ(to_f16(1e9f).bits, 0x7c00);
  EXPECT_TRUE(std::isnan(to_float(to_f16(std::bit_cast<float>(0x7f800001u)))));
}

}  // namespace
}  // namespace tidemill

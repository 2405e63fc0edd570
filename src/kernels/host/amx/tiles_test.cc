// Plain tiles against what the manual says, by numbers worked out by hand and by the library's fma.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "base/float16.h"
#include "kernels/host/amx/plain_tiles.h"

namespace tidemill {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TileShapes shapes_of(int rows, int b_rows) {
  TileShapes shapes{};
  shapes.palette = 1;
  for (const int tile : {0, 1, 2}) {
    shapes.num_rows[tile] = static_cast<uint8_t>(tile == 2 ? b_rows : rows);
    shapes.row_bytes[tile] = static_cast<uint16_t>(tile == 1 ? b_rows * 4 : 64);
  }
  return shapes;
}

// One row of inputs times one channel, added to `c`: what a dot makes of element (0, 0).
float dot(const std::vector<float>& inputs, const std::vector<float>& weights, float c = 0.0f) {
  const int pairs = static_cast<int>(inputs.size() / 2);
  PlainTiles tiles;
  tiles.configure(shapes_of(1, pairs));
  uint16_t a[32] = {};
  uint16_t b[16][32] = {};
  float sums[16] = {c};
  for (size_t k = 0; k < inputs.size(); ++k) {
    a[k] = to_bf16(inputs[k]).bits;
    b[k / 2][k % 2] = to_bf16(weights[k]).bits;
  }
  tiles.load<0>(sums, 64);
  tiles.load<1>(a, 64);
  tiles.load<2>(b, 64);
  tiles.dot_bf16<0, 1, 2>();
  tiles.store<0>(sums, 64);
  // Weights of zero, except that infinity times zero is no number.
  for (int n = 1; n < 16; ++n) EXPECT_TRUE(sums[n] == 0.0f || std::isnan(sums[0])) << n;
  return sums[0];
}

std::vector<float> ones(size_t count) { return std::vector<float>(count, 1.0f); }

TEST(PlainTiles, EvenAndOddProductsAreAddedApartAndThenToTheSum) {
  // Even: 2^24 + 1 + 1 stays 2^24, a tie to even each time. Odd: 0 + 1 + 1 = 2. Only then the sum.
  EXPECT_EQ(dot({0x1p24f, 0, 1, 1, 1, 1}, ones(6), -0x1p24f), 2.0f);
  // Twice as much to the odd ones.
  EXPECT_EQ(dot({0, 0x1p24f, 1, 1, 1, 1}, ones(6), -0x1p24f), 2.0f);
  // Had the even ones come last, the two ones would have been seen.
  EXPECT_EQ(dot({1, 0, 1, 0, 0x1p24f, 0}, ones(6), -0x1p24f), 2.0f);
  EXPECT_EQ(dot({0x1p24f, 0, 1, 0, 1, 0}, ones(6), -0x1p24f), 0.0f);
  // The two sums meet before they meet C: 2^24 + 1 is rounded to 2^24.
  EXPECT_EQ(dot({0x1p24f, 1}, ones(2), -0x1p24f), 0.0f);
}

TEST(PlainTiles, ProductsAreNotRoundedBeforeTheyAreAdded) {
  EXPECT_EQ(dot({-0x1p127f, 0, 0x1p127f, 0}, {1, 0, 2, 0}), 0x1p127f);  // 2^128 does not overflow
  EXPECT_EQ(dot({0x1p127f, 0}, {2, 0}), kInfinity);
  EXPECT_TRUE(std::isnan(dot({kInfinity, -kInfinity}, ones(2))));
}

TEST(PlainTiles, DenormalsAreZeroComingInAndGoingOut) {
  EXPECT_EQ(dot({0x1p-127f, 0}, {0x1p100f, 0}), 0.0f);
  EXPECT_EQ(dot({0x1p100f, 0}, {0x1p-127f, 0}), 0.0f);
  EXPECT_EQ(dot({0, 0}, {1, 1}, 0x1p-127f), 0.0f);
  EXPECT_EQ(dot({0x1p-126f, 0}, {1, 1}), 0x1p-126f);
  EXPECT_EQ(dot({0x1p-100f, 0}, {0x1p-27f, 0}), 0.0f);
  EXPECT_EQ(dot({0x1.8p-126f, -0x1p-126f}, ones(2)), 0.0f);     // where the two sums meet
  EXPECT_EQ(dot({0x1.8p-126f, 0}, ones(2), -0x1p-126f), 0.0f);  // and where they meet C
  EXPECT_EQ(dot({0x1.8p-126f, 0, -0x1p-126f, 0, 1, 0}, ones(6)), 1.0f);
}

// The library's fma on floats, as long as no denormal comes up.
TEST(PlainTiles, MultiplyAddIsRoundedOnceWhateverTheExponents) {
  std::mt19937_64 random(1);
  const auto number = [&](int bits) {
    const auto mantissa = static_cast<float>(random() >> (64 - bits)) + 0.5f;
    const float sign = random() % 2 == 0 ? 1.0f : -1.0f;
    return std::ldexp(sign * mantissa, static_cast<int>(random() % 40) - 20 - bits);
  };
  int inexact = 0;
  for (int i = 0; i < 20000; ++i) {
    const float first = number(24);
    const float a = to_float(to_bf16(number(8)));
    const float b = to_float(to_bf16(number(8)));
    // The first number, of 24 bits, as the sum of three products.
    float rest = first;
    std::vector<float> inputs;
    for (int part = 0; part < 3; ++part) {
      const uint32_t bits = std::bit_cast<uint32_t>(rest) & 0xffff0000u;
      inputs.insert(inputs.end(), {std::bit_cast<float>(bits), 0.0f});
      rest -= std::bit_cast<float>(bits);
    }
    ASSERT_EQ(rest, 0.0f);
    inputs.insert(inputs.end(), {a, 0.0f});
    const float expected = std::fma(a, b, first);
    inexact += expected != first &&
               static_cast<double>(expected) !=
                   static_cast<double>(a) * static_cast<double>(b) + static_cast<double>(first);
    ASSERT_EQ(dot(inputs, {1, 0, 1, 0, 1, 0, b, 0}), expected) << a << " " << b << " " << first;
  }
  EXPECT_GT(inexact, 1000) << "too few of these had to be rounded";
}

template <typename A, typename B>
std::vector<int32_t> sums_of(const A* a, const B* b, int rows, int b_rows, int32_t start) {
  std::vector<int32_t> sums(static_cast<size_t>(rows) * 16);
  for (int r = 0; r < rows; ++r) {
    for (int n = 0; n < 16; ++n) {
      int64_t total = start;
      for (int k = 0; k < b_rows * 4; ++k) {
        total += int64_t{a[r * 64 + k]} * int64_t{b[k / 4 * 64 + n * 4 + k % 4]};
      }
      sums[static_cast<size_t>(r * 16 + n)] = static_cast<int32_t>(total);
    }
  }
  return sums;
}

template <typename A, typename B, typename Dot>
void expect_exact_sums(Dot dot_bytes) {
  std::mt19937_64 random(2);
  for (const int b_rows : {1, 8, 16}) {
    for (const int rows : {1, 5, 16}) {
      for (const bool extreme : {false, true}) {
        A a[1024];
        B b[1024];
        for (A& value : a) value = static_cast<A>(extreme ? 0x80 : random());
        for (B& value : b) value = static_cast<B>(extreme ? 0xff : random());
        for (const int32_t start : {0, -7, std::numeric_limits<int32_t>::max()}) {
          std::vector<int32_t> sums(static_cast<size_t>(rows) * 16, start);
          PlainTiles tiles;
          tiles.configure(shapes_of(rows, b_rows));
          tiles.load<0>(sums.data(), 64);
          tiles.load<1>(a, 64);
          tiles.load<2>(b, 64);
          dot_bytes(tiles);
          tiles.store<0>(sums.data(), 64);
          ASSERT_EQ(sums, sums_of(a, b, rows, b_rows, start)) << rows << " rows of " << b_rows * 4;
        }
      }
    }
  }
}

TEST(PlainTiles, BytesAreMultipliedByTheirSignsAndAddedExactly) {
  expect_exact_sums<int8_t, uint8_t>([](PlainTiles& tiles) { tiles.dot_su<0, 1, 2>(); });
  expect_exact_sums<int8_t, int8_t>([](PlainTiles& tiles) { tiles.dot_ss<0, 1, 2>(); });
  expect_exact_sums<uint8_t, int8_t>([](PlainTiles& tiles) { tiles.dot_us<0, 1, 2>(); });
}

TEST(PlainTiles, OnlyTheRowsThatThereAreComeInAndGoOut) {
  unsigned char from[16 * 80];
  for (size_t i = 0; i < sizeof from; ++i) from[i] = static_cast<unsigned char>(i % 251 + 1);
  unsigned char to[16 * 96] = {};
  PlainTiles tiles;
  TileShapes shapes = shapes_of(16, 16);
  shapes.num_rows[0] = 3;
  shapes.row_bytes[0] = 20;
  tiles.configure(shapes);
  tiles.load<0>(from, 80);
  tiles.store<0>(to, 96);
  for (size_t i = 0; i < sizeof to; ++i) {
    const size_t row = i / 96;
    const size_t byte = i % 96;
    ASSERT_EQ(to[i], row < 3 && byte < 20 ? from[row * 80 + byte] : 0) << i;
  }
  tiles.zero<0>();
  tiles.store<0>(to, 96);
  for (const unsigned char byte : to) ASSERT_EQ(byte, 0);
}

// On the processor each of these is a fault.
TEST(PlainTilesDeathTest, WhatTheInstructionsRefuseEndsTheProcess) {
  PlainTiles tiles;
  unsigned char memory[1024] = {};
  EXPECT_DEATH(tiles.load<0>(memory, 64), "tile 0 is not configured");
  tiles.configure(shapes_of(4, 16));
  EXPECT_DEATH(tiles.zero<3>(), "tile 3 is not configured");
  EXPECT_DEATH((tiles.dot_bf16<0, 1, 1>()), "tiles 0, 1, 1 are not three");
  TileShapes shapes = shapes_of(4, 16);
  shapes.num_rows[0] = 5;
  tiles.configure(shapes);
  EXPECT_DEATH((tiles.dot_bf16<0, 1, 2>()), "C has 5 rows, A 4");
  shapes = shapes_of(4, 16);
  shapes.num_rows[2] = 15;
  tiles.configure(shapes);
  EXPECT_DEATH((tiles.dot_su<0, 1, 2>()), "a row of A has 64 bytes, B 15 rows");
  shapes.num_rows[2] = 17;
  EXPECT_DEATH(tiles.configure(shapes), "tile 2 of 17 rows");
  tiles.configure(shapes_of(4, 16));
  tiles.release();
  EXPECT_DEATH(tiles.zero<0>(), "tile 0 is not configured");
}

}  // namespace
}  // namespace tidemill

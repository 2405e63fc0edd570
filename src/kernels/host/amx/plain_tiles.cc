#include "kernels/host/amx/plain_tiles.h"

#include <math.h>
#include <string.h>

#include <bit>

#include "base/check.h"

namespace tidemill {
namespace {

constexpr int kMaxChannels = 16;
constexpr uint32_t kExponent = 0x7f800000u;

float without_denormal(uint32_t bits) {
  return std::bit_cast<float>((bits & kExponent) == 0 ? bits & 0x80000000u : bits);
}

float bf16_at(const unsigned char* row, int index) {
  uint16_t bits;
  memcpy(&bits, row + index * 2, sizeof bits);
  return without_denormal(uint32_t{bits} << 16);
}

float f32_at(const unsigned char* row, int index) {
  uint32_t bits;
  memcpy(&bits, row + index * 4, sizeof bits);
  return without_denormal(bits);
}

// To float, denormals to zero. A value counts as one when it is still below the smallest normal
// number after rounding to 24 bits: below 2^-126 - 2^-151.
float rounded(double value) {
  constexpr double kSmallest = 0x1p-126 - 0x1p-151;
  return fabs(value) < kSmallest ? static_cast<float>(copysign(0.0, value))
                                 : static_cast<float>(value);
}

// a * b + c rounded once, a and b bf16: the product is exact in a double, and what the double's sum
// loses lies 29 bits below the float's last, never at a tie: a product has 16 bits, c has 24.
float fused(float a, float b, float c) {
  return rounded(static_cast<double>(a) * static_cast<double>(b) + static_cast<double>(c));
}

float sum(float a, float b) { return rounded(static_cast<double>(a) + static_cast<double>(b)); }

int32_t byte_at(const unsigned char* row, int index, bool is_signed) {
  return is_signed ? static_cast<int8_t>(row[index]) : row[index];
}

}  // namespace

PlainNotes plain_notes{};

void PlainTiles::configure(const TileShapes& shapes) {
  CHECK(shapes.palette == 1 && shapes.first_row == 0, "palette {}, first row {}", shapes.palette,
        shapes.first_row);
  for (int t = 0; t < 16; ++t) {
    const int rows = shapes.num_rows[t];
    const int bytes = shapes.row_bytes[t];
    CHECK(t < kNumTiles || (rows == 0 && bytes == 0), "there is no tile {}", t);
    CHECK(rows <= kTileHeight && bytes <= 64 && (rows == 0) == (bytes == 0),
          "tile {} of {} rows of {} bytes", t, rows, bytes);
  }
  shapes_ = shapes;
  memset(bytes_, 0, sizeof bytes_);
}

void PlainTiles::release() {
  shapes_ = {};
  memset(bytes_, 0, sizeof bytes_);
}

void PlainTiles::check_usable(int tile) const {
  CHECK(shapes_.palette == 1 && shapes_.num_rows[tile] > 0, "tile {} is not configured", tile);
}

void PlainTiles::check_dot(int c, int a, int b) const {
  for (const int tile : {c, a, b}) check_usable(tile);
  CHECK(c != a && c != b && a != b, "tiles {}, {}, {} are not three", c, a, b);
  CHECK(shapes_.num_rows[c] == shapes_.num_rows[a], "C has {} rows, A {}", shapes_.num_rows[c],
        shapes_.num_rows[a]);
  CHECK(shapes_.row_bytes[c] == shapes_.row_bytes[b], "a row of C has {} bytes, one of B {}",
        shapes_.row_bytes[c], shapes_.row_bytes[b]);
  CHECK(shapes_.row_bytes[a] == 4 * shapes_.num_rows[b], "a row of A has {} bytes, B {} rows",
        shapes_.row_bytes[a], shapes_.num_rows[b]);
  CHECK(shapes_.row_bytes[c] % 4 == 0, "a row of C has {} bytes", shapes_.row_bytes[c]);
}

void PlainTiles::zero(int tile) {
  check_usable(tile);
  memset(bytes_[tile], 0, kTileBytes);
}

void PlainTiles::load(int tile, const void* rows, int64_t stride) {
  zero(tile);
  for (int r = 0; r < shapes_.num_rows[tile]; ++r) {
    memcpy(row(tile, r), static_cast<const unsigned char*>(rows) + r * stride,
           shapes_.row_bytes[tile]);
  }
}

void PlainTiles::store(int tile, void* rows, int64_t stride) const {
  check_usable(tile);
  for (int r = 0; r < shapes_.num_rows[tile]; ++r) {
    memcpy(static_cast<unsigned char*>(rows) + r * stride, bytes_[tile] + r * 64,
           shapes_.row_bytes[tile]);
  }
}

void PlainTiles::dot_bf16(int c, int a, int b) {
  check_dot(c, a, b);
  const int channels = shapes_.row_bytes[c] / 4;
  const int pairs = shapes_.num_rows[b];
  float weights[kTileHeight][2][kMaxChannels];
  for (int pair = 0; pair < pairs; ++pair) {
    for (int n = 0; n < 2 * channels; ++n) weights[pair][n % 2][n / 2] = bf16_at(row(b, pair), n);
  }
  for (int r = 0; r < shapes_.num_rows[c]; ++r) {
    float even[kMaxChannels] = {};
    float odd[kMaxChannels] = {};
    for (int pair = 0; pair < pairs; ++pair) {
      const float first = bf16_at(row(a, r), 2 * pair);
      const float second = bf16_at(row(a, r), 2 * pair + 1);
      for (int n = 0; n < channels; ++n) {
        even[n] = fused(first, weights[pair][0][n], even[n]);
        odd[n] = fused(second, weights[pair][1][n], odd[n]);
      }
    }
    for (int n = 0; n < channels; ++n) {
      const float total = sum(f32_at(row(c, r), n), sum(even[n], odd[n]));
      memcpy(row(c, r) + n * 4, &total, sizeof total);
    }
  }
}

void PlainTiles::dot_bytes(int c, int a, int b, Signs signs) {
  check_dot(c, a, b);
  const int channels = shapes_.row_bytes[c] / 4;
  const int count = shapes_.row_bytes[a];
  int32_t weights[64][kMaxChannels];
  for (int k = 0; k < count; ++k) {
    for (int n = 0; n < kMaxChannels; ++n) {
      weights[k][n] = n < channels ? byte_at(row(b, k / 4), n * 4 + k % 4, signs.b_signed) : 0;
    }
  }
  for (int r = 0; r < shapes_.num_rows[c]; ++r) {
    uint32_t totals[kMaxChannels] = {};
    memcpy(totals, row(c, r), static_cast<size_t>(channels) * 4);
    for (int k = 0; k < count; ++k) {
      const int32_t input = byte_at(row(a, r), k, signs.a_signed);
      for (int n = 0; n < kMaxChannels; ++n) {
        totals[n] += static_cast<uint32_t>(input * weights[k][n]);
      }
    }
    memcpy(row(c, r), totals, static_cast<size_t>(channels) * 4);
  }
}

}  // namespace tidemill

// Integer products without VNNI: VPMADDUBSW multiplies unsigned bytes with signed ones and adds
// pairs into 16 bits, where it saturates. Weights are therefore taken as nibbles: 15 * 128 * 2 is
// 3840, and eight of those fit 16 bits. int8 is two planes of nibbles, the upper one counts 16
// times.
//
// Included by the product_*.cc files of the variants, which bring `V`: a register of V::kChannels
// channels, a whole or half row of a panel. In an unnamed namespace, as product_tiles.h explains.
#pragma once

#include <stdint.h>

#include "kernels/host/product_groups.h"
#include "kernels/host/product_tiles.h"
#include "kernels/host/unroll.h"

namespace tidemill {
namespace {

struct Int8Planes {
  static constexpr int64_t kInputsPerRow = 4;
  static constexpr int32_t kMiddle = 128;
  static constexpr int kPlanes = 2;  // 16-bit sums for each output
};
struct Int4Planes {
  static constexpr int64_t kInputsPerRow = 8;
  static constexpr int32_t kMiddle = 8;
  static constexpr int kPlanes = 1;
};

inline constexpr int64_t kInputsPerChunk = 32;  // what 16 bits hold

// Rows of the input x registers of channels from column `first` on (in registers).
template <typename V, typename Numbers, int kRows, int kCols>
class MaddubsTile {
 public:
  MaddubsTile(const ProductTile& tile, int64_t first) : tile_(tile), first_(first) {}

  void run() {
    for (GroupWalk group(tile_, Numbers::kInputsPerRow); group.next();) {
      start(group);
      constexpr int64_t kRowsPerChunk = kInputsPerChunk / Numbers::kInputsPerRow;
      for (int64_t row = 0; row < group.num_rows; row += kRowsPerChunk) {
        add_chunk(group, row, kRowsPerChunk);
      }
      finish(group);
    }
  }

 private:
  using I = typename V::I;
  using F = typename V::F;
  static constexpr int64_t kColsPerPanel = 16 / V::kChannels;

  const unsigned char* panel_of(int col) const {
    return tile_.panels + (first_ + col) / kColsPerPanel * tile_.panel_stride;
  }
  // Channels of the panel before this column's.
  int64_t channel_of(int col) const { return (first_ + col) % kColsPerPanel * V::kChannels; }

  float* total_of(int row, int col) const {
    return tile_.sums + (row * kTilePanels + (first_ + col) / kColsPerPanel) * 16 + channel_of(col);
  }

  void start(const GroupWalk& group) {
    for (int r = 0; r < kRows; ++r) {
      const auto* of_input =
          reinterpret_cast<const int32_t*>(scale_of_input(tile_, r, group.index));
      const int32_t middle =
          tile_.format.offsets == Offsets::kNone ? -Numbers::kMiddle * of_input[1] : 0;
      for (int c = 0; c < kCols; ++c) sums_[r][c] = V::set1(middle);
    }
  }

  void add_chunk(const GroupWalk& group, int64_t first_row, int64_t num_rows) {
    I words[kRows][kCols][Numbers::kPlanes];
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      TIDEMILL_UNROLL
      for (int c = 0; c < kCols; ++c) {
        TIDEMILL_UNROLL
        for (int plane = 0; plane < Numbers::kPlanes; ++plane) words[r][c][plane] = V::set1(0);
      }
    }
    const unsigned char* x = tile_.in + group.index * tile_.format.group;
    for (int64_t row = first_row; row < first_row + num_rows; ++row) {
      TIDEMILL_UNROLL
      for (int c = 0; c < kCols; ++c) {
        const unsigned char* data = panel_of(c) + group.rows + row * 64 + channel_of(c) * 4;
        const I numbers = V::load(data);
        const I low = V::low_nibbles(numbers);
        const I high = V::low_nibbles(V::shift_words_right(numbers));
        TIDEMILL_UNROLL
        for (int r = 0; r < kRows; ++r) {
          const auto* inputs = reinterpret_cast<const int32_t*>(x + r * tile_.in_stride);
          if constexpr (Numbers::kPlanes == 2) {
            const I x4 = V::set1(inputs[row]);
            words[r][c][0] = V::add_words(words[r][c][0], V::multiply_bytes(low, x4));
            words[r][c][1] = V::add_words(words[r][c][1], V::multiply_bytes(high, x4));
          } else {
            words[r][c][0] =
                V::add_words(words[r][c][0], V::multiply_bytes(low, V::set1(inputs[2 * row])));
            words[r][c][0] =
                V::add_words(words[r][c][0], V::multiply_bytes(high, V::set1(inputs[2 * row + 1])));
          }
        }
      }
    }
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      TIDEMILL_UNROLL
      for (int c = 0; c < kCols; ++c) {
        I sum = V::add(sums_[r][c], V::add_pairs(words[r][c][0], 1));
        if constexpr (Numbers::kPlanes == 2) sum = V::add(sum, V::add_pairs(words[r][c][1], 16));
        sums_[r][c] = sum;
      }
    }
  }

  // The order of these floats is part of the format's meaning (inner.h).
  void finish(const GroupWalk& group) {
    for (int c = 0; c < kCols; ++c) {
      const unsigned char* row = panel_of(c) + group.scales;
      const int64_t channel = channel_of(c);
      const F scales = tile_.format.group == 0 ? V::floats_at(row + channel * 4)
                                               : V::halves_at(row + channel * 2);
      const bool has_zeros = tile_.format.offsets == Offsets::kZero;
      const bool has_offsets = tile_.format.offsets == Offsets::kOffset;
      const I zeros = has_zeros ? V::widened_bytes(row + 32 + channel) : V::set1(0);
      const F offsets = has_offsets ? V::halves_at(row + 32 + channel * 2) : V::zero();
      for (int r = 0; r < kRows; ++r) {
        const unsigned char* of_input = scale_of_input(tile_, r, group.index);
        const float scale = *reinterpret_cast<const float*>(of_input);
        float* target = total_of(r, c);
        F total = group.index == 0 ? V::zero() : V::floats_at(target);
        const int32_t x_sum = *reinterpret_cast<const int32_t*>(of_input + 4);
        I sum = sums_[r][c];
        if (has_zeros) sum = V::add(sum, V::multiply(zeros, V::set1(-x_sum)));
        total = V::fma(V::scaled(sum, V::set1_float(scale)), scales, total);
        if (has_offsets) {
          total = V::fma(offsets, V::set1_float(scale * static_cast<float>(x_sum)), total);
        }
        V::store(target, total);
      }
    }
  }

  const ProductTile& tile_;
  const int64_t first_;
  I sums_[kRows][kCols];
};

// All columns for kRows rows: kCols at once while there are so many, then one by one.
template <typename V, typename Numbers, int kRows, int kCols>
void maddubs_rows(const ProductTile& tile) {
  const int64_t cols = tile.num_panels * (16 / V::kChannels);
  int64_t col = 0;
  for (; col + kCols <= cols; col += kCols) {
    MaddubsTile<V, Numbers, kRows, kCols>(tile, col).run();
  }
  for (; col < cols; ++col) MaddubsTile<V, Numbers, kRows, 1>(tile, col).run();
}

// V::kSums: 16-bit sums that fit the registers beside weights and input.
template <typename V, typename Numbers>
void maddubs_product(const ProductTile& whole) {
  constexpr int kSums = V::kSums / Numbers::kPlanes;
  for (int64_t r = 0; r < whole.num_rows;) {
    ProductTile part = whole;
    part.in += r * whole.in_stride;
    part.sums += r * kRowSums;
    const int64_t left = whole.num_rows - r;
    if (left >= 4) {
      maddubs_rows<V, Numbers, 4, kSums / 4>(part);
      r += 4;
    } else if (left >= 2) {
      maddubs_rows<V, Numbers, 2, kSums / 2>(part);
      r += 2;
    } else {
      maddubs_rows<V, Numbers, 1, kSums>(part);
      r += 1;
    }
  }
}

}  // namespace
}  // namespace tidemill

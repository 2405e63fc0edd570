// Sums of integers, exact within a group, on their way to floats.
//
// In an unnamed namespace, as attention_loop.h explains.
#pragma once

#include <stdint.h>

#include "kernels/host/amx/products.h"
#include "kernels/host/amx/tile_blocks.h"
#include "kernels/host/inner.h"
#include "kernels/host/product_groups.h"
#include "kernels/host/unroll.h"

namespace tidemill {
namespace {

// Which rows or panels of a product.
struct Part {
  int64_t first, count;
};

constexpr int64_t kMostInputRows = 3 * kTileHeight;
constexpr int64_t kGroupsPerPass = kMaxTilesPerPass;  // at most

// What stands behind the numbers of a row of the input for one group, as sums need it.
struct InputScale {
  float scale;
  // By a product's offsets: none, what a sum lacks; zero points, what it lacks for each unit of
  // those; else the factor of the channels' offsets, a float.
  int32_t other;
};

// Those of some rows and up to kMostGroups groups, turned: a group's rows side by side. kMiddle:
// what weights were multiplied without, where it is alike for all channels; then they were
// multiplied without zero points of their own, too.
template <int32_t kMiddle, int64_t kMostGroups>
class InputScales {
 public:
  void turn(const ProductTile& product, Part rows, Part groups) {
    switch (product.format.offsets) {
      case Offsets::kNone:
        return turn_each(product, rows, groups, [](float, int32_t sum) { return -kMiddle * sum; });
      case Offsets::kZero:
        return turn_each(product, rows, groups, [](float, int32_t sum) { return -sum; });
      case Offsets::kOffset:
        return turn_each(product, rows, groups, [](float scale, int32_t sum) {
          return __builtin_bit_cast(int32_t, static_cast<float>(sum) * scale);
        });
    }
  }

  const InputScale* of_group(int64_t group) const { return scales_[group]; }

 private:
  template <typename Other>
  void turn_each(const ProductTile& product, Part rows, Part groups, const Other& other) {
    const int64_t stride = product.in_stride;
    const unsigned char* from = scale_of_input(product, rows.first, groups.first);
    for (int64_t r = 0; r < rows.count; ++r, from += stride) {
      for (int64_t g = 0; g < groups.count; ++g) {
        const float scale = *reinterpret_cast<const float*>(from + g * 8);
        const int32_t sum = *reinterpret_cast<const int32_t*>(from + g * 8 + 4);
        scales_[g][r] = {scale, other(scale, sum)};
      }
    }
  }

  alignas(64) InputScale scales_[kMostGroups][kMostInputRows];
};

// Sums in memory: a row's panels side by side, 64 bytes each, and one group behind the other.
template <int64_t kRowBytes, int64_t kGroupBytes>
struct GroupSums {
  static constexpr int64_t kFromRow = kRowBytes;
  static constexpr int64_t kFromGroup = kGroupBytes;
  const unsigned char* sums;
  int64_t num_groups;
};

// Where the scales of those groups' channels stand. Group: has `scales` of Portion.
template <typename Group>
struct GroupScales {
  const unsigned char* panel;
  const Group* groups;
  bool per_channel;  // floats, in place of f16 numbers
};

// Gives sums of kRows rows and a panel their scales and adds them to the rows' floats
// (ProductTile::sums), or to zeros, which are in registers meanwhile. The order of these floats is
// part of the format's meaning (inner.h).
template <Offsets kOffsets, int32_t kMiddle, int kRows, typename V, typename Sums, typename Group>
[[gnu::always_inline]] inline void add_scaled(Sums sums, const GroupScales<Group> channels,
                                              const InputScale* inputs, bool from_zero,
                                              float* totals) {
  typename V::F total[kRows];
  if (from_zero) {
    TIDEMILL_UNROLL_16
    for (int r = 0; r < kRows; ++r) total[r] = V::zero();
  } else {
    TIDEMILL_UNROLL_16
    for (int r = 0; r < kRows; ++r) total[r] = V::floats_at(totals + r * kRowSums);
  }
  const Group* group = channels.groups;
  for (int64_t g = 0; g < sums.num_groups; ++g, ++group) {
    const unsigned char* const of_channels = channels.panel + group->scales;
    const typename V::F scale =
        channels.per_channel ? V::floats_at(of_channels) : V::halves_at(of_channels);
    typename V::I zeros;
    typename V::F offsets;
    if constexpr (kOffsets == Offsets::kZero) zeros = V::words_at(of_channels + 32);
    if constexpr (kOffsets == Offsets::kOffset) offsets = V::halves_at(of_channels + 32);
    TIDEMILL_UNROLL_16
    for (int r = 0; r < kRows; ++r) {
      typename V::I sum = V::load(sums.sums + r * Sums::kFromRow);
      if constexpr (kMiddle != 0 && kOffsets == Offsets::kNone) {
        sum = V::add(sum, V::set1(inputs[r].other));
      }
      if constexpr (kMiddle != 0 && kOffsets == Offsets::kZero) {
        sum = V::add(sum, V::multiply(zeros, V::set1(inputs[r].other)));
      }
      total[r] = V::fma(V::scaled(sum, V::set1_float(inputs[r].scale)), scale, total[r]);
      if constexpr (kOffsets == Offsets::kOffset) {
        const float factor = __builtin_bit_cast(float, inputs[r].other);
        total[r] = V::fma(offsets, V::set1_float(factor), total[r]);
      }
    }
    sums.sums += Sums::kFromGroup;
    inputs += kMostInputRows;
  }
  TIDEMILL_UNROLL_16
  for (int r = 0; r < kRows; ++r) V::store(totals + r * kRowSums, total[r]);
}

// The same for a tile of rows and num_panels panels. A function of its own and of few values, so
// that all of them are in registers.
template <Offsets kOffsets, int32_t kMiddle, typename V, typename Sums, typename Group>
[[gnu::noinline]] void add_scaled_tile(Sums sums, int64_t num_panels, int64_t panel_stride,
                                       GroupScales<Group> channels, const InputScale* inputs,
                                       bool from_zero, float* totals) {
  for (int64_t p = 0; p < num_panels; ++p) {
    add_scaled<kOffsets, kMiddle, kTileHeight, V>(sums, channels, inputs, from_zero, totals);
    sums.sums += 64;
    channels.panel += panel_stride;
    totals += 16;
  }
}

// Of a tile that is not whole: num_rows.
template <Offsets kOffsets, int32_t kMiddle, typename V, typename Sums, typename Group>
[[gnu::noinline]] void add_scaled_part(Sums sums, int64_t num_rows, int64_t num_panels,
                                       int64_t panel_stride, GroupScales<Group> channels,
                                       const InputScale* inputs, bool from_zero, float* totals) {
  constexpr int64_t kSome = 4;
  for (int64_t p = 0; p < num_panels; ++p) {
    Sums from = sums;
    int64_t row = 0;
    for (; row + kSome <= num_rows; row += kSome) {
      add_scaled<kOffsets, kMiddle, kSome, V>(from, channels, inputs + row, from_zero,
                                              totals + row * kRowSums);
      from.sums += kSome * Sums::kFromRow;
    }
    for (; row < num_rows; ++row) {
      add_scaled<kOffsets, kMiddle, 1, V>(from, channels, inputs + row, from_zero,
                                          totals + row * kRowSums);
      from.sums += Sums::kFromRow;
    }
    sums.sums += 64;
    channels.panel += panel_stride;
    totals += 16;
  }
}

template <Offsets kOffsets, int32_t kMiddle, typename V, typename Sums, typename Group>
void add_scaled_tiles(const ProductTile& product, Sums sums, Part rows, Part panels,
                      const Group* groups, const InputScale* inputs, bool from_zero) {
  const int64_t stride = product.panel_stride;
  const GroupScales<Group> channels{product.panels + panels.first * stride, groups,
                                    product.format.group == 0};
  float* totals = product.sums + rows.first * kRowSums + panels.first * 16;
  int64_t left = rows.count;
  for (; left >= kTileHeight; left -= kTileHeight) {
    add_scaled_tile<kOffsets, kMiddle, V>(sums, panels.count, stride, channels, inputs, from_zero,
                                          totals);
    sums.sums += kTileHeight * Sums::kFromRow;
    inputs += kTileHeight;
    totals += kTileHeight * kRowSums;
  }
  if (left == 0) return;
  add_scaled_part<kOffsets, kMiddle, V>(sums, left, panels.count, stride, channels, inputs,
                                        from_zero, totals);
}

// The sums of a block of rows and a set of panels. `sums`, `groups` and `inputs` are of the first
// group, row and panel. from_zero: it is the first of all groups.
template <int32_t kMiddle, typename V, typename Sums, typename Group>
void add_scaled_block(const ProductTile& product, Sums sums, Part rows, Part panels,
                      const Group* groups, const InputScale* inputs, bool from_zero) {
  switch (product.format.offsets) {
    case Offsets::kNone:
      return add_scaled_tiles<Offsets::kNone, kMiddle, V>(product, sums, rows, panels, groups,
                                                          inputs, from_zero);
    case Offsets::kZero:
      return add_scaled_tiles<Offsets::kZero, kMiddle, V>(product, sums, rows, panels, groups,
                                                          inputs, from_zero);
    case Offsets::kOffset:
      return add_scaled_tiles<Offsets::kOffset, kMiddle, V>(product, sums, rows, panels, groups,
                                                            inputs, from_zero);
  }
}

}  // namespace
}  // namespace tidemill

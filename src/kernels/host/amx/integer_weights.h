// Integers of a panel as tiles take them. Included by the files of the tile loops; in an unnamed
// namespace, as attention_loop.h explains.
#pragma once

#include <stdint.h>

#include "kernels/host/inner.h"

namespace tidemill {
namespace {

// As they stand in the panel: unsigned, against signed activations.
struct Int8Weights {
  static constexpr int64_t kInputsPerRow = 4;
  static constexpr bool kPacked = false;
  static constexpr int32_t kMiddle = 128;  // subtracted from sums
  template <int kC, int kA, int kB, typename Tiles>
  static void add(Tiles& tiles) {
    tiles.template dot_su<kC, kA, kB>();
  }
};

// Unpacked, and signed then: the middle of all channels, 8, or a channel's zero point is subtracted
// once from a weight rather than from every row's sum.
struct Int4Weights {
  static constexpr int64_t kInputsPerRow = 8;
  static constexpr bool kPacked = true;
  static constexpr int32_t kMiddle = 0;
  template <int kC, int kA, int kB, typename Tiles>
  static void add(Tiles& tiles) {
    tiles.template dot_ss<kC, kA, kB>();
  }
};

// What is subtracted from the bytes of a group of int4. `scales`: the group's, in the panel. V: see
// IntegerProduct.
template <typename V>
typename V::I middle_of_int4(const PackedFormat& format, const unsigned char* panel,
                             int64_t scales) {
  if (format.offsets == Offsets::kZero) {
    return V::spread_bytes(V::masked(V::words_at(panel + scales + 32), kInt4ZeroMask));
  }
  return V::set1_byte(format.offsets == Offsets::kNone ? int8_t{8} : int8_t{0});
}

// A row of eight inputs becomes two of four bytes each, in the order in which the activations lie.
template <typename V>
[[gnu::always_inline]] inline void unpack_int4(const unsigned char* row, typename V::I middle,
                                               unsigned char* to) {
  const typename V::I packed = V::load(row);
  V::store_bytes(to, V::subtract_bytes(V::low_nibbles(packed), middle));
  V::store_bytes(to + 64, V::subtract_bytes(V::low_nibbles(V::shift_words_right(packed)), middle));
}

}  // namespace
}  // namespace tidemill

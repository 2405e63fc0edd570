// Where the groups of a panel of integers stand (packed_weight.h). Included by the product_*.cc
// files of the variants; in an unnamed namespace, as product_tiles.h explains.
#pragma once

#include <stdint.h>

#include "kernels/host/inner.h"
#include "kernels/host/unroll.h"

namespace tidemill {
namespace {

// Goes over the groups of a panel, one for each next(). Offsets are bytes from the panel's start.
class GroupWalk {
 public:
  GroupWalk(const ProductTile& tile, int64_t inputs_per_row)
      : rows_left_(tile.num_steps),
        rows_per_group_(tile.format.group == 0 ? tile.num_steps
                                               : tile.format.group / inputs_per_row),
        pairs_(tile.format.group > 0 && tile.format.offsets == Offsets::kNone) {}

  bool next() {
    ++index;
    if (num_pending_ > 0) {  // the second of two that share a row of scales
      rows += num_rows * 64;
      scales += 32;
      num_rows = num_pending_;
      num_pending_ = 0;
      return true;
    }
    if (rows_left_ == 0) return false;
    rows = next_rows_;
    num_rows = rows_left_ < rows_per_group_ ? rows_left_ : rows_per_group_;
    rows_left_ -= num_rows;
    if (pairs_) num_pending_ = rows_left_ < rows_per_group_ ? rows_left_ : rows_per_group_;
    rows_left_ -= num_pending_;
    scales = rows + (num_rows + num_pending_) * 64;
    next_rows_ = scales + 64;
    return true;
  }

  // Where the numbers of the group behind this one stand.
  int64_t next_rows() const { return num_pending_ > 0 ? rows + num_rows * 64 : next_rows_; }

  int64_t index = -1;    // of the group
  int64_t rows = 0;      // its numbers
  int64_t num_rows = 0;  // of 64 bytes
  int64_t scales = 0;

 private:
  int64_t rows_left_;
  int64_t rows_per_group_;
  bool pairs_;
  int64_t num_pending_ = 0;
  int64_t next_rows_ = 0;
};

inline int64_t groups_of(const ProductTile& tile) {
  const int64_t group = tile.format.group;
  return group == 0 ? 1 : (tile.num_inputs + group - 1) / group;
}

// What stands behind the numbers of a row of the input, for one group (quantized_rows.h).
inline const unsigned char* scale_of_input(const ProductTile& tile, int64_t row, int64_t group) {
  return tile.in + row * tile.in_stride + tile.num_inputs + group * 8;
}

// Rows of the input, for registers V::I. A pointer for every three: an address of two registers
// reaches the others. Twelve pointers are more than there are registers for, and GCC 12 then sends
// them through those of vectors, in the innermost loop.
template <typename V, int kRows>
struct InputRows {
  InputRows(const unsigned char* first, int64_t row_stride) : stride(row_stride) {
    TIDEMILL_UNROLL
    for (int i = 0; i < kThirds; ++i) thirds[i] = first + 3 * i * stride;
  }
  void advance(int64_t bytes) {
    TIDEMILL_UNROLL
    for (int i = 0; i < kThirds; ++i) thirds[i] += bytes;
  }
  // The four bytes that row r is at, in every channel.
  typename V::I operator[](int r) const {
    const unsigned char* base = thirds[r / 3];
    typename V::I inputs;
    if (r % 3 == 0) {
      __asm__("vpbroadcastd (%1), %0" : "=v"(inputs) : "r"(base));
    } else if (r % 3 == 1) {
      __asm__("vpbroadcastd (%1,%2), %0" : "=v"(inputs) : "r"(base), "r"(stride));
    } else {
      __asm__("vpbroadcastd (%1,%2,2), %0" : "=v"(inputs) : "r"(base), "r"(stride));
    }
    return inputs;
  }

  // The same with the bits of `flip` turned over (AVX-512).
  typename V::I flipped(int r, const typename V::I& flip) const {
    const unsigned char* base = thirds[r / 3];
    typename V::I inputs;
    if (r % 3 == 0) {
      __asm__("vpxord (%1)%{1to16%}, %2, %0" : "=v"(inputs) : "r"(base), "v"(flip));
    } else if (r % 3 == 1) {
      __asm__("vpxord (%1,%2)%{1to16%}, %3, %0" : "=v"(inputs) : "r"(base), "r"(stride), "v"(flip));
    } else {
      __asm__("vpxord (%1,%2,2)%{1to16%}, %3, %0"
              : "=v"(inputs)
              : "r"(base), "r"(stride), "v"(flip));
    }
    return inputs;
  }

  static constexpr int kThirds = (kRows + 2) / 3;
  const unsigned char* thirds[kThirds];
  int64_t stride;
};

}  // namespace
}  // namespace tidemill

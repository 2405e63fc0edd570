// How the K of a product of integers is cut for tiles (packed_weight.h says how it lies in a
// panel). Included by the files of the tile loops; in an unnamed namespace, as attention_loop.h
// explains.
//
// A B tile holds 64 inputs, where a group is a multiple of that; else 32, half of a tile's rows. In
// groups of 32 the processor could not do better with whole tiles: each group needs its own sums,
// and a dot costs as much for 8 rows of weights as for 16 (it goes over the rows of A). Half the
// tile's rate is what is left, still above the vector instructions that apply the scales.
#pragma once

#include <stdint.h>

#include "kernels/host/inner.h"
#include "kernels/host/product_groups.h"

namespace tidemill {
namespace {

inline int64_t tile_inputs_of(const PackedFormat& format) {
  return format.group % 64 == 0 ? 64 : 32;
}

// B tiles of one group that lie one behind the other.
struct Portion {
  int64_t group;      // its index
  int64_t rows;       // offset of the numbers in a panel
  int64_t num_rows;   // of 64 bytes
  int64_t next_rows;  // of a group: offset of the next one's
  int64_t inputs;     // the first one's
  int64_t num_tiles;  // 1 or more
  int64_t scales;     // offset of the group's scales in a panel
  bool starts, ends;  // the group
};

// The tiles of a panel in order. Copies go on from where the original stands.
class PortionWalk {
 public:
  PortionWalk(const ProductTile& product, int64_t inputs_per_row)
      : groups_(product, inputs_per_row),
        tile_inputs_(tile_inputs_of(product.format)),
        log_rows_per_tile_(__builtin_ctzll(static_cast<uint64_t>(tile_inputs_ / inputs_per_row))),
        tiles_behind_(product.num_inputs / tile_inputs_) {
    // A pass never ends within one of several groups: their totals stand where the sums would.
    const int64_t group = product.format.group;
    tiles_per_group_ = group == 0 ? 1 : group / tile_inputs_;
  }

  int64_t num_tiles() const { return tiles_behind_; }
  int64_t tiles_per_group() const { return tiles_per_group_; }  // 1 without groups

  // Up to max_tiles, which is 1 or more.
  bool next(int64_t max_tiles, Portion& portion) {
    if (tiles_behind_ == 0) return false;
    const bool starts = group_left_ == 0;
    if (starts) {
      groups_.next();
      row_ = groups_.rows;
      group_left_ = groups_.num_rows >> log_rows_per_tile_;
    }
    const int64_t num_tiles = group_left_ < max_tiles ? group_left_ : max_tiles;
    portion = {.group = groups_.index,
               .rows = row_,
               .num_rows = num_tiles << log_rows_per_tile_,
               .next_rows = groups_.next_rows(),
               .inputs = inputs_,
               .num_tiles = num_tiles,
               .scales = groups_.scales,
               .starts = starts,
               .ends = num_tiles == group_left_};
    row_ += portion.num_rows * 64;
    group_left_ -= num_tiles;
    tiles_behind_ -= num_tiles;
    inputs_ += num_tiles * tile_inputs_;
    return true;
  }

 private:
  GroupWalk groups_;
  int64_t tile_inputs_;
  int log_rows_per_tile_;  // of a panel
  int64_t tiles_per_group_;
  int64_t group_left_ = 0;  // tiles
  int64_t row_ = 0;
  int64_t inputs_ = 0;
  int64_t tiles_behind_;  // the portions before, in all of K
};

}  // namespace
}  // namespace tidemill

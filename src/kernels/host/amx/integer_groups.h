// Products of integers in groups: the sums of each group, in memory.
//
// In an unnamed namespace, as attention_loop.h explains.
#pragma once

#include <stdint.h>

#include "kernels/host/amx/integer_portions.h"
#include "kernels/host/amx/integer_weights.h"
#include "kernels/host/amx/tile_blocks.h"

namespace tidemill {
namespace {

// What add_groups does, of few values, so that all of them are in registers: a load from the stack
// would wait for tiles that are being stored.
template <typename Weights, typename TilePlan, int kRowTiles, int kUsed, Reads kReads,
          typename Tiles, typename Group>
[[gnu::noinline]] void add_each_group(Tiles& tiles, const unsigned char* in, int64_t in_stride,
                                      const unsigned char* weights, int64_t weights_stride,
                                      int64_t rows_per_tile, const unsigned char* panel_end,
                                      const Group* groups, const Group* end, unsigned char* sums) {
  constexpr int64_t kRowBytes = kUsed * 64;
  constexpr int64_t kGroupBytes = kRowTiles * kUsed * kTileBytes;
  for (bool is_first = true; groups < end; is_first = false) {
    add_products<Weights, TilePlan, kRowTiles, kUsed, kReads>(
        tiles,
        {.in = in,
         .in_stride = in_stride,
         .weights = weights,
         .weights_stride = weights_stride,
         .rows_per_tile = rows_per_tile,
         .num_tiles = groups->num_tiles,
         .panel_end = panel_end - weights},
        [ =, &tiles ](auto r, auto p) __attribute__((always_inline)) {
          constexpr int kTile = TilePlan::c(r.value, p.value);
          if (!is_first) {
            const SumsPlace before{sums - kGroupBytes, kRowBytes};
            tiles.template store<kTile>(before.tile(r.value, p.value), kRowBytes);
          }
          tiles.template zero<kTile>();
        },
        Nothing{});
    const int64_t inputs = groups->num_tiles * rows_per_tile * 4;
    in += inputs;
    weights += Weights::kPacked ? inputs * kPanelChannels : groups->next_rows - groups->rows;
    sums += kGroupBytes;
    ++groups;
  }
  store_sums<TilePlan, kRowTiles, kUsed>(tiles, {sums - kGroupBytes, kRowBytes});
}

// The sums of num_groups groups that follow each other, to `sums`: a row's panels side by side, a
// group behind the other. `operands`: of the first one's first tile; unpacked int4 lies one group
// behind the other. Group: has num_tiles, rows and next_rows of Portion.
//
// A tile's sums are stored when the tile is wanted for those of the next group: by then they are
// ready, and nothing waits for them.
template <typename Weights, typename TilePlan, int kRowTiles, int kUsed,
          Reads kReads = Reads::kThroughL1, typename Tiles, typename Group>
void add_groups(Tiles& tiles, const Operands& operands, const Group* groups, int64_t num_groups,
                unsigned char* sums) {
  add_each_group<Weights, TilePlan, kRowTiles, kUsed, kReads>(
      tiles, operands.in, operands.in_stride, operands.weights, operands.weights_stride,
      operands.rows_per_tile, operands.weights + operands.panel_end, groups, groups + num_groups,
      sums);
}

}  // namespace
}  // namespace tidemill

// Products of bf16 on tiles. Whatever the blocking and the number of rows: an output is the sum
// over k blocks in order, so its bits are the same.
//
// In an unnamed namespace, as attention_loop.h explains.
#pragma once

#include <stdint.h>

#include "kernels/host/amx/products.h"
#include "kernels/host/amx/tile_blocks.h"
#include "kernels/host/inner.h"

namespace tidemill {
namespace {

struct Bf16Dot {
  template <int kC, int kA, int kB, typename Tiles>
  static void add(Tiles& tiles) {
    tiles.template dot_bf16<kC, kA, kB>();
  }
};

struct Bf16Stretch {
  int64_t first_tile, num_tiles;
  int64_t per_pass;  // tiles
  bool streams;
};

template <int kRowTiles, int kPanels, typename Tiles>
void sweep_bf16(Tiles& tiles, const ProductTile& product, const Bf16Stretch& stretch,
                const RowBlocks& rows, Fetcher& fetcher) {
  using TilePlan = Plan<kRowTiles, kPanels>;
  constexpr int64_t kSumsStride = kTilePanels * 64;
  tiles.configure(TilePlan::shapes(rows.last_rows, kTileHeight));
  const auto add_pass = [&](int64_t row, int64_t first_tile, int64_t num_tiles) {
    each_set_of_panels<kPanels>(product.num_panels, [&](auto used, int64_t panel) {
      const SumsPlace sums{
          reinterpret_cast<unsigned char*>(product.sums) + row * kSumsStride + panel * 64,
          kSumsStride};
      if (first_tile == 0) {
        zero_sums<TilePlan, kRowTiles, used.value>(tiles);
      } else {
        load_sums<TilePlan, kRowTiles, used.value>(tiles, sums);
      }
      const Operands operands{
          .in = product.in + row * product.in_stride + first_tile * 64,
          .in_stride = product.in_stride,
          .weights = product.panels + panel * product.panel_stride + first_tile * kTileBytes,
          .weights_stride = product.panel_stride,
          .rows_per_tile = kTileHeight,
          .num_tiles = num_tiles,
          .panel_end = product.panel_stride - first_tile * kTileBytes};
      Fetcher fetching = fetcher;
      const auto beside = [&]() __attribute__((always_inline)) {
        fetching.template advance<Tiles>(1);
      };
      if (kRowTiles <= 2 && stretch.streams) {
        add_products<Bf16Dot, TilePlan, kRowTiles, used.value, Reads::kStream>(
            tiles, operands, Nothing{}, Nothing{});
      } else {
        add_products<Bf16Dot, TilePlan, kRowTiles, used.value, Reads::kPastL1>(tiles, operands,
                                                                               Nothing{}, beside);
      }
      fetcher = fetching;
      store_sums<TilePlan, kRowTiles, used.value>(tiles, sums);
    });
  };
  for (int64_t b = 0; b < rows.count; ++b) {
    const int64_t row = rows.first_row + b * kRowTiles * kTileHeight;
    for (int64_t done = 0; done < stretch.num_tiles; done += stretch.per_pass) {
      const int64_t left = stretch.num_tiles - done;
      add_pass(row, stretch.first_tile + done, left < stretch.per_pass ? left : stretch.per_pass);
    }
  }
}

// Up to two tiles of rows make one pass, in which their four or two panels are streams. More rows
// have arithmetic enough to fetch the next stretch, or the next group of panels, meanwhile.
template <typename Tiles>
void multiply_bf16(Blocking blocking, Tiles& tiles, const ProductTile& product) {
  const int64_t num_tiles = product.num_steps / kTileHeight;
  const bool streams = product.num_rows <= kStreamRows;
  with_blocking(blocking, [&](auto row_tiles, auto panels) {
    const int64_t per_stretch = streams ? num_tiles : tiles_per_stretch(num_tiles, row_tiles.value);
    const int64_t per_pass =
        streams ? num_tiles : equal_part(per_stretch, tiles_per_pass(row_tiles.value));
    for (int64_t first = 0; first < num_tiles; first += per_stretch) {
      const int64_t left = num_tiles - first;
      const Bf16Stretch stretch{first, left < per_stretch ? left : per_stretch, per_pass, streams};
      const unsigned char* next = streams ? nullptr : product.ahead;
      if (left > per_stretch) next = product.panels + (first + per_stretch) * kTileBytes;
      Fetcher fetcher{.next = next,
                      .panel_stride = product.panel_stride,
                      .num_panels = product.num_panels,
                      .num_rows = kTileHeight,
                      .num_steps = num_blocks<row_tiles.value, panels.value>(product.num_panels,
                                                                             product.num_rows),
                      .credit = 0};
      each_kind_of_block<row_tiles.value, panels.value>(
          product.num_rows, [&](auto tiles_of_rows, auto panels_at_once, const RowBlocks& rows) {
            sweep_bf16<tiles_of_rows.value, panels_at_once.value>(tiles, product, stretch, rows,
                                                                  fetcher);
          });
    }
  });
}

}  // namespace
}  // namespace tidemill

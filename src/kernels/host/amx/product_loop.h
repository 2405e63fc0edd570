// Products on tiles, one template for every blocking, for bf16 and int8, for instructions and plain
// C++. Whatever the blocking and the number of rows: an output is the sum over k blocks in order,
// so its bits are the same.
//
// In an unnamed namespace, as attention_loop.h explains.
#pragma once

#include <stdint.h>

#include "kernels/host/amx/products.h"
#include "kernels/host/amx/tiles.h"
#include "kernels/host/inner.h"

namespace tidemill {
namespace {

// Inputs and sums of a call, whatever their types: both have 4 bytes per channel and row of a
// panel.
struct TileProduct {
  const unsigned char* in;
  int64_t in_stride;  // bytes
  int64_t num_rows;
  const unsigned char* panels;
  const unsigned char* ahead;  // the panels that come after these, wanted in L2; null: none
  int64_t panel_stride;        // bytes
  int64_t num_panels;
  int64_t num_steps;       // 64-byte rows of a panel
  int64_t steps_per_tile;  // of a B tile: 16, or all of a shorter group; num_steps is a multiple
  bool adds;               // to what stands in sums
  unsigned char* sums;
  int64_t sums_stride;  // bytes per row; panel p is 64 p bytes further
};

struct Bf16Dot {
  template <int kC, int kA, int kB, typename Tiles>
  static void add(Tiles& tiles) {
    tiles.template dot_bf16<kC, kA, kB>();
  }
};

// Activations are signed, weights are stored as q + 128.
struct Int8Dot {
  template <int kC, int kA, int kB, typename Tiles>
  static void add(Tiles& tiles) {
    tiles.template dot_su<kC, kA, kB>();
  }
};

// A call's panels are read in passes of at most so many B tiles of each: while all rows pass over
// 1,024 inputs of 2 bytes of eight panels, those, the next pass and the inputs stay in 2 MiB of L2.
constexpr int64_t kTilesPerPass = 32;
// How far ahead in its panel a stream is fetched.
constexpr int64_t kStreamBytes = 2048;

template <int kValue>
struct Index {
  static constexpr int value = kValue;
};

// body(Index<kBegin>) to body(Index<kEnd - 1>): tiles have numbers, not addresses.
template <int kBegin, int kEnd, typename Body>
[[gnu::always_inline]] inline void each(const Body& body) {
  if constexpr (kBegin < kEnd) {
    body(Index<kBegin>{});
    each<kBegin + 1, kEnd>(body);
  }
}

// Which tile is what when kRowTiles x kPanels sums are held at once.
template <int kRowTiles, int kPanels>
struct Plan {
  static constexpr int kSums = kRowTiles * kPanels;
  static constexpr int kFree = kNumTiles - kSums - kRowTiles;
  static_assert(kFree >= 1, "a tile must be left for weights");
  static constexpr int kWeightTiles = kFree < kPanels ? kFree : kPanels;

  static constexpr int c(int row_tile, int panel) { return row_tile * kPanels + panel; }
  static constexpr int a(int row_tile) { return kSums + row_tile; }
  static constexpr int b(int panel) { return kSums + kRowTiles + panel % kWeightTiles; }

  // All row tiles are whole but the last.
  static TileShapes shapes(int64_t last_rows, int64_t steps_per_tile) {
    TileShapes shapes{};
    shapes.palette = 1;
    const auto set = [&shapes](int tile, int64_t rows, int64_t bytes) {
      shapes.num_rows[tile] = static_cast<uint8_t>(rows);
      shapes.row_bytes[tile] = static_cast<uint16_t>(bytes);
    };
    for (int r = 0; r < kRowTiles; ++r) {
      const int64_t rows = r + 1 < kRowTiles ? kTileHeight : last_rows;
      set(a(r), rows, steps_per_tile * 4);
      for (int p = 0; p < kPanels; ++p) set(c(r, p), rows, 64);
    }
    for (int p = 0; p < kWeightTiles; ++p) set(b(p), steps_per_tile, 64);
    return shapes;
  }
};

// Brings the next pass into L2 while this one is multiplied, as many rows of panels as this one
// has. A row of every panel at a time makes as many streams through memory; in one burst they would
// hold up the loads, so each step of each set of panels and block of rows takes an equal share.
struct Fetcher {
  const unsigned char* next;  // first panel's first row; null: nothing is wanted
  int64_t panel_stride;
  int64_t num_panels;
  int64_t rows_per_tile;
  int64_t num_shares;  // how often a B tile of each panel goes by: for each set and block
  int64_t credit;

  template <typename Tiles>
  void advance() {
    if (next == nullptr) return;
    for (credit += rows_per_tile; credit >= num_shares; credit -= num_shares) {
      for (int64_t p = 0; p < num_panels; ++p) Tiles::fetch(next + p * panel_stride);
      next += 64;
    }
  }
};

// A block of rows times a set of panels, over the B tiles of one pass.
struct Block {
  const unsigned char* in;
  const unsigned char* panels;
  unsigned char* sums;
  int64_t num_tiles;
  bool from_zero;  // else from what stands in sums
  bool streams;    // the panels are used once: each is fetched ahead of itself
};

// kUsed of the plan's panels. Each A and B tile is zeroed right after its last dot, and nothing is
// unrolled beyond that: the processor runs ahead by itself.
template <typename Dot, typename TilePlan, int kRowTiles, int kUsed, typename Tiles>
void multiply_block(Tiles& tiles, const TileProduct& product, const Block& block,
                    Fetcher& fetcher) {
  each<0, kRowTiles>([&](auto r) {
    each<0, kUsed>([&](auto p) {
      constexpr int kC = TilePlan::c(r.value, p.value);
      if (block.from_zero) {
        tiles.template zero<kC>();
      } else {
        tiles.template load<kC>(
            block.sums + r.value * kTileHeight * product.sums_stride + p.value * 64,
            product.sums_stride);
      }
    });
  });
  const int64_t weight_bytes = product.steps_per_tile * 64;
  const int64_t input_bytes = product.steps_per_tile * 4;
  for (int64_t t = 0; t < block.num_tiles; ++t) {
    fetcher.advance<Tiles>();
    each<0, kUsed>([&](auto p) {
      constexpr int kB = TilePlan::b(p.value);
      const unsigned char* weights =
          block.panels + p.value * product.panel_stride + t * weight_bytes;
      tiles.template load<kB>(weights, 64);
      if (block.streams) {
        for (int64_t step = 0; step < product.steps_per_tile; ++step) {
          Tiles::fetch(weights + kStreamBytes + step * 64);
        }
      }
      each<0, kRowTiles>([&](auto r) {
        constexpr int kA = TilePlan::a(r.value);
        if constexpr (p.value == 0) {
          tiles.template load<kA>(
              block.in + r.value * kTileHeight * product.in_stride + t * input_bytes,
              product.in_stride);
        }
        Dot::template add<TilePlan::c(r.value, p.value), kA, kB>(tiles);
        if constexpr (p.value + 1 == kUsed) tiles.template zero<kA>();
      });
      tiles.template zero<kB>();
    });
  }
  each<0, kRowTiles>([&](auto r) {
    each<0, kUsed>([&](auto p) {
      tiles.template store<TilePlan::c(r.value, p.value)>(
          block.sums + r.value * kTileHeight * product.sums_stride + p.value * 64,
          product.sums_stride);
    });
  });
}

// Blocks of rows that share one setting of the tiles.
struct RowBlocks {
  int64_t first_row;
  int64_t count;
  int64_t last_rows;  // of each block's last tile
};

struct Pass {
  int64_t first_tile, num_tiles;
  const unsigned char* next;  // where the panels of the next pass begin; null: nothing is wanted
  bool streams;
};

template <typename Dot, int kRowTiles, int kPanels, typename Tiles>
void sweep(Tiles& tiles, const TileProduct& product, const Pass& pass, const RowBlocks& rows) {
  using TilePlan = Plan<kRowTiles, kPanels>;
  tiles.configure(TilePlan::shapes(rows.last_rows, product.steps_per_tile));
  const int64_t num_sets = product.num_panels / kPanels + product.num_panels % kPanels;
  Fetcher fetcher{.next = pass.next,
                  .panel_stride = product.panel_stride,
                  .num_panels = product.num_panels,
                  .rows_per_tile = product.steps_per_tile,
                  .num_shares = num_sets * rows.count,
                  .credit = 0};
  for (int64_t panel = 0; panel < product.num_panels;) {
    const int64_t width = product.num_panels - panel >= kPanels ? kPanels : 1;
    for (int64_t b = 0; b < rows.count; ++b) {
      const int64_t row = rows.first_row + b * kRowTiles * kTileHeight;
      const Block block{
          .in = product.in + row * product.in_stride + pass.first_tile * product.steps_per_tile * 4,
          .panels = product.panels + panel * product.panel_stride +
                    pass.first_tile * product.steps_per_tile * 64,
          .sums = product.sums + row * product.sums_stride + panel * 64,
          .num_tiles = pass.num_tiles,
          .from_zero = pass.first_tile == 0 && !product.adds,
          .streams = pass.streams};
      if (width == kPanels) {
        multiply_block<Dot, TilePlan, kRowTiles, kPanels>(tiles, product, block, fetcher);
      } else {
        multiply_block<Dot, TilePlan, kRowTiles, 1>(tiles, product, block, fetcher);
      }
    }
    panel += width;
  }
}

// The rows behind the last whole block: as many tiles as they fill, the last one with the rows that
// there are. A single tile of rows takes four panels at once.
template <typename Dot, int kRowTiles, int kPanels, typename Tiles>
void sweep_rest(Tiles& tiles, const TileProduct& product, const Pass& pass, int64_t first_row) {
  const int64_t num_tiles = (product.num_rows - first_row + kTileHeight - 1) / kTileHeight;
  const int64_t last_rows = product.num_rows - first_row - (num_tiles - 1) * kTileHeight;
  const RowBlocks rows{first_row, 1, last_rows};
  if (num_tiles == 1) {
    sweep<Dot, 1, 4>(tiles, product, pass, rows);
  } else if (num_tiles == 2) {
    sweep<Dot, 2, kPanels>(tiles, product, pass, rows);
  } else if constexpr (kRowTiles == 3) {
    sweep<Dot, 3, kPanels>(tiles, product, pass, rows);
  }
}

// A single tile of rows makes one pass, in which its four panels are four streams. More rows have
// arithmetic enough to fetch the next pass, or the next group of panels, all at once meanwhile.
template <typename Dot, int kRowTiles, int kPanels, typename Tiles>
void multiply(Tiles& tiles, const TileProduct& product) {
  static_assert(kRowTiles == 2 || kRowTiles == 3);
  constexpr int64_t kBlockRows = kRowTiles * kTileHeight;
  const int64_t num_whole = product.num_rows / kBlockRows;
  const int64_t num_tiles = product.num_steps / product.steps_per_tile;
  const bool streams = product.num_rows <= kTileHeight;
  const int64_t num_passes = streams ? 1 : (num_tiles + kTilesPerPass - 1) / kTilesPerPass;
  const int64_t per_pass = (num_tiles + num_passes - 1) / num_passes;
  for (int64_t first = 0; first < num_tiles; first += per_pass) {
    const int64_t left = num_tiles - first;
    Pass pass{first, left < per_pass ? left : per_pass, nullptr, streams};
    if (left > per_pass) {
      pass.next = product.panels + (first + per_pass) * product.steps_per_tile * 64;
    } else if (!streams) {
      pass.next = product.ahead;
    }
    if (num_whole > 0) {
      sweep<Dot, kRowTiles, kPanels>(tiles, product, pass, {0, num_whole, kTileHeight});
      pass.next = nullptr;
    }
    if (num_whole * kBlockRows < product.num_rows) {
      sweep_rest<Dot, kRowTiles, kPanels>(tiles, product, pass, num_whole * kBlockRows);
    }
  }
}

template <typename Dot, typename Tiles>
void multiply_by(Blocking blocking, Tiles& tiles, const TileProduct& product) {
  switch (blocking) {
    case Blocking::k3x1:
      return multiply<Dot, 3, 1>(tiles, product);
    case Blocking::k2x2:
      return multiply<Dot, 2, 2>(tiles, product);
    case Blocking::k2x1:
      return multiply<Dot, 2, 1>(tiles, product);
  }
}

template <typename Tiles>
void multiply_bf16(Blocking blocking, Tiles& tiles, const ProductTile& tile) {
  multiply_by<Bf16Dot>(blocking, tiles,
                       {.in = tile.in,
                        .in_stride = tile.in_stride,
                        .num_rows = tile.num_rows,
                        .panels = tile.panels,
                        .ahead = tile.ahead,
                        .panel_stride = tile.panel_stride,
                        .num_panels = tile.num_panels,
                        .num_steps = tile.num_steps,
                        .steps_per_tile = kTileHeight,
                        .adds = false,
                        .sums = reinterpret_cast<unsigned char*>(tile.sums),
                        .sums_stride = kTilePanels * 64});
}

template <typename Tiles>
void multiply_int8(Blocking blocking, Tiles& tiles, const Int8Group& group) {
  TileProduct product{.in = reinterpret_cast<const unsigned char*>(group.in),
                      .in_stride = group.in_stride,
                      .num_rows = group.num_rows,
                      .panels = group.panels,
                      .ahead = group.ahead,
                      .panel_stride = group.panel_stride,
                      .num_panels = group.num_panels,
                      .num_steps = group.num_steps / kTileHeight * kTileHeight,
                      .steps_per_tile = kTileHeight,
                      .adds = false,
                      .sums = reinterpret_cast<unsigned char*>(group.sums),
                      .sums_stride = group.sums_stride * 4};
  const int64_t rest = group.num_steps - product.num_steps;
  if (rest > 0) product.ahead = product.panels + product.num_steps * 64;
  if (product.num_steps > 0) multiply_by<Int8Dot>(blocking, tiles, product);
  if (rest == 0) return;
  product.in += product.num_steps * 4;
  product.panels += product.num_steps * 64;
  product.ahead = group.ahead;
  product.adds = product.num_steps > 0;
  product.num_steps = product.steps_per_tile = rest;
  multiply_by<Int8Dot>(blocking, tiles, product);
}

}  // namespace
}  // namespace tidemill

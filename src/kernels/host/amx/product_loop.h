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

// While many rows pass over a set of panels, both stay in the caches for so many B tiles of each
// panel: 1,024 inputs of 2 bytes, 64 KiB of a pair of panels.
constexpr int64_t kTilesPerPass = 32;
// How far ahead in its panel a stream that is used once is fetched.
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

// Lines of the panels that a block of rows fetches with each B tile: those of them that lie `bytes`
// further on.
struct Fetch {
  int64_t bytes;
  int64_t first_line, end_line;
};

// A block of rows times a set of panels, over the B tiles of one pass.
struct Block {
  const unsigned char* in;
  const unsigned char* panels;
  unsigned char* sums;
  int64_t num_tiles;
  bool from_zero;  // else from what stands in sums
  Fetch fetch;
};

template <typename Tiles>
void fetch_lines(const unsigned char* weights, const Fetch& fetch) {
  for (int64_t line = fetch.first_line; line < fetch.end_line; ++line) {
    Tiles::fetch(weights + fetch.bytes + line * 64);
  }
}

// kUsed of the plan's panels. Each A and B tile is zeroed right after its last dot, and nothing is
// unrolled beyond that: the processor runs ahead by itself.
template <typename Dot, typename TilePlan, int kRowTiles, int kUsed, typename Tiles>
void multiply_block(Tiles& tiles, const TileProduct& product, const Block& block) {
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
    each<0, kUsed>([&](auto p) {
      constexpr int kB = TilePlan::b(p.value);
      const unsigned char* weights =
          block.panels + p.value * product.panel_stride + t * weight_bytes;
      tiles.template load<kB>(weights, 64);
      fetch_lines<Tiles>(weights, block.fetch);
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
  // Where the set of panels that is wanted next begins, as seen from the last set; null: nothing.
  const unsigned char* next;
  bool streams;  // one block of rows: panels are used once
};

// What block `b` of the row blocks fetches: of what it streams through, what comes soon; else its
// share of the next set of panels, so that reading is spread over all of the arithmetic.
inline Fetch fetch_of(const TileProduct& product, const Pass& pass, int64_t panel, int64_t width,
                      int64_t b, int64_t num_blocks) {
  if (pass.streams) return {kStreamBytes, 0, product.steps_per_tile};
  const Fetch share{width * product.panel_stride, product.steps_per_tile * b / num_blocks,
                    product.steps_per_tile * (b + 1) / num_blocks};
  if (panel + width < product.num_panels) return share;
  if (pass.next == nullptr) return {0, 0, 0};
  const unsigned char* here =
      product.panels + panel * product.panel_stride + pass.first_tile * product.steps_per_tile * 64;
  return {pass.next - here, share.first_line, share.end_line};
}

template <typename Dot, int kRowTiles, int kPanels, typename Tiles>
void sweep(Tiles& tiles, const TileProduct& product, const Pass& pass, const RowBlocks& rows,
           bool fetches) {
  using TilePlan = Plan<kRowTiles, kPanels>;
  tiles.configure(TilePlan::shapes(rows.last_rows, product.steps_per_tile));
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
          .fetch = fetches ? fetch_of(product, pass, panel, width, b, rows.count) : Fetch{0, 0, 0}};
      if (width == kPanels) {
        multiply_block<Dot, TilePlan, kRowTiles, kPanels>(tiles, product, block);
      } else {
        multiply_block<Dot, TilePlan, kRowTiles, 1>(tiles, product, block);
      }
    }
    panel += width;
  }
}

// The rows behind the last whole block: as many tiles as they fill, the last one with the rows that
// there are. A single tile of rows takes four panels, as four streams through memory.
template <typename Dot, int kRowTiles, int kPanels, typename Tiles>
void sweep_rest(Tiles& tiles, const TileProduct& product, const Pass& pass, int64_t first_row,
                bool fetches) {
  const int64_t num_tiles = (product.num_rows - first_row + kTileHeight - 1) / kTileHeight;
  const int64_t last_rows = product.num_rows - first_row - (num_tiles - 1) * kTileHeight;
  const RowBlocks rows{first_row, 1, last_rows};
  if (num_tiles == 1) {
    sweep<Dot, 1, 4>(tiles, product, pass, rows, fetches);
  } else if (num_tiles == 2) {
    sweep<Dot, 2, kPanels>(tiles, product, pass, rows, fetches);
  } else if constexpr (kRowTiles == 3) {
    sweep<Dot, 3, kPanels>(tiles, product, pass, rows, fetches);
  }
}

template <typename Dot, int kRowTiles, int kPanels, typename Tiles>
void multiply(Tiles& tiles, const TileProduct& product) {
  static_assert(kRowTiles == 2 || kRowTiles == 3);
  constexpr int64_t kBlockRows = kRowTiles * kTileHeight;
  const int64_t num_whole = product.num_rows / kBlockRows;
  const int64_t num_tiles = product.num_steps / product.steps_per_tile;
  const bool streams = product.num_rows <= kBlockRows;
  const int64_t per_pass = streams ? num_tiles : kTilesPerPass;
  for (int64_t first = 0; first < num_tiles; first += per_pass) {
    const int64_t left = num_tiles - first;
    Pass pass{first, left < per_pass ? left : per_pass, product.ahead, streams};
    if (left > per_pass) {
      pass.next = product.panels + (first + per_pass) * product.steps_per_tile * 64;
    }
    if (num_whole > 0) {
      sweep<Dot, kRowTiles, kPanels>(tiles, product, pass, {0, num_whole, kTileHeight}, true);
    }
    if (num_whole * kBlockRows < product.num_rows) {
      sweep_rest<Dot, kRowTiles, kPanels>(tiles, product, pass, num_whole * kBlockRows,
                                          num_whole == 0);
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
                      .ahead = nullptr,
                      .panel_stride = group.panel_stride,
                      .num_panels = group.num_panels,
                      .num_steps = group.num_steps / kTileHeight * kTileHeight,
                      .steps_per_tile = kTileHeight,
                      .adds = false,
                      .sums = reinterpret_cast<unsigned char*>(group.sums),
                      .sums_stride = group.sums_stride * 4};
  if (product.num_steps > 0) multiply_by<Int8Dot>(blocking, tiles, product);
  const int64_t rest = group.num_steps - product.num_steps;
  if (rest == 0) return;
  product.in += product.num_steps * 4;
  product.panels += product.num_steps * 64;
  product.adds = product.num_steps > 0;
  product.num_steps = product.steps_per_tile = rest;
  multiply_by<Int8Dot>(blocking, tiles, product);
}

}  // namespace
}  // namespace tidemill

// How a product on tiles is cut: which tile holds what, blocks of rows, what is fetched meanwhile.
// One template for every blocking, whatever the numbers, for instructions and plain C++.
//
// In an unnamed namespace, as attention_loop.h explains.
#pragma once

#include <stdint.h>

#include "kernels/host/amx/products.h"
#include "kernels/host/amx/tiles.h"

namespace tidemill {
namespace {

// K is walked in passes, so that the inputs of a block of rows stay in L1 (48 KiB) while all panels
// of the call pass over them; panels come from L2, one behind the other, where the next pass waits.
// Between two uses of an input go the inputs and as much of two panels, 36 KiB, and some sums. 256
// rows take 0.68 to 0.96 of the time that passes of 40 KiB take (576 inputs of int8 up to 1.11), 64
// rows 0.81 to 0.98, int4 0.95 to 1.05 (a Xeon whose products wait for L2, weights from memory).
constexpr int64_t kInputBytesPerPass = 18 * 1024;
constexpr int64_t kMaxTilesPerPass = kInputBytesPerPass / (2 * kTileBytes);
constexpr int64_t tiles_per_pass(int row_tiles) {
  return kInputBytesPerPass / (row_tiles * kTileBytes);
}
// The size of equal parts of `count`, none above `most`; the last one may be smaller.
inline int64_t equal_part(int64_t count, int64_t most) {
  const int64_t num_parts = (count + most - 1) / most;
  return (count + num_parts - 1) / num_parts;
}
// What a pass is when `num_tiles` are cut into equal ones, whole groups each.
inline int64_t equal_passes(int64_t num_tiles, int64_t per_group, int row_tiles) {
  const int64_t num_groups = (num_tiles + per_group - 1) / per_group;
  const int64_t most = tiles_per_pass(row_tiles) / per_group;
  return equal_part(num_groups, most > 0 ? most : 1) * per_group;
}
// Of bf16 passes go together in stretches, whose panels are still in L2 when the next rows want
// them, while as much of the next stretch is fetched. Within it a block of rows makes its passes
// one after the other, so that its sums are in L1 for all but the first of them; weights go past
// L1, which has the block's inputs and its sums. 256 rows take 0.92 to 0.99 of the time that one
// pass of all rows after the other takes, and whole prompts of SmolLM2 0.93 to 0.96; with stretches
// of 32 tiles 0.95 to 1.09, of 64, which L2 has lost some of before they are used (presumed), 0.95
// to 1.2; with weights through L1 0.99 to 1.08 (another Xeon). Integers take 0.97 to 1.11.
constexpr int64_t kPassesPerStretch = 2;
inline int64_t tiles_per_stretch(int64_t num_tiles, int row_tiles) {
  return equal_part(num_tiles, kPassesPerStretch * tiles_per_pass(row_tiles));
}
// Up to so many rows use each weight once, straight from memory: 32 rows of bf16 take 0.84 to 0.90
// of the time that passes take, of int8 0.93 to 0.99 (the same Xeon).
constexpr int64_t kStreamRows = 2 * kTileHeight;
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

inline void set_shape(TileShapes& shapes, int tile, int64_t rows, int64_t row_bytes) {
  shapes.num_rows[tile] = static_cast<uint8_t>(rows);
  shapes.row_bytes[tile] = static_cast<uint16_t>(row_bytes);
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
    for (int r = 0; r < kRowTiles; ++r) {
      const int64_t rows = r + 1 < kRowTiles ? kTileHeight : last_rows;
      set_shape(shapes, a(r), rows, steps_per_tile * 4);
      for (int p = 0; p < kPanels; ++p) set_shape(shapes, c(r, p), rows, 64);
    }
    for (int p = 0; p < kWeightTiles; ++p) set_shape(shapes, b(p), steps_per_tile, 64);
    return shapes;
  }
};

// Brings the next pass into L2 while this one is multiplied. A row of every panel at a time makes
// as many streams through memory; in one burst they would hold up the loads, so each step takes an
// equal share. Loops that advance it have a copy of their own, which is in registers.
struct Fetcher {
  const unsigned char* next;  // first panel's first row; null: nothing is wanted
  int64_t panel_stride;
  int64_t num_panels;
  int64_t num_rows;   // of 64 bytes of each panel, to fetch within
  int64_t num_steps;  // that advance is told of
  int64_t credit;

  template <typename Tiles>
  void advance(int64_t steps) {
    if (next == nullptr) return;
    for (credit += steps * num_rows; credit >= num_steps; credit -= num_steps) {
      for (int64_t p = 0; p < num_panels; ++p) Tiles::fetch(next + p * panel_stride);
      next += 64;
    }
  }
};

// What a block of rows times a set of panels reads, over num_tiles B tiles of each panel.
struct Operands {
  const unsigned char* in;  // the first row's first byte
  int64_t in_stride;        // bytes, as are all strides
  const unsigned char* weights;
  int64_t weights_stride;  // from panel to panel
  int64_t rows_per_tile;   // of B: 64 bytes each, and 4 bytes of a row of A
  int64_t num_tiles;       // 1 or more
  int64_t panel_end = 0;   // of weights that stream: bytes from `weights` to their panel's end
};

// A panel that streams beside others, num_panels in all: for the lines from `at` on, those are
// fetched that lie ahead of them; behind the panel's end, those of the set of panels behind this.
// (A row of zeros that it ends with is not read, so that one line of the next set is not asked
// for.)
template <typename Tiles>
[[gnu::always_inline]] inline void fetch_stream(const unsigned char* at, int64_t num_lines,
                                                const unsigned char* panel_end,
                                                int64_t panel_stride, int64_t num_panels) {
  const unsigned char* ahead = at + kStreamBytes;
  int64_t line = 0;
  for (; line < num_lines && ahead < panel_end; ++line, ahead += 64) Tiles::fetch(ahead);
  ahead += (num_panels - 1) * panel_stride;
  for (; line < num_lines; ++line, ahead += 64) Tiles::fetch(ahead);
}

struct Nothing {
  void operator()(auto...) const {}
};

// How weights come to their tiles. kPastL1: from L2, and L1 keeps what it has. kStream: from
// memory, to be used once, so that each is fetched ahead of itself.
enum class Reads { kThroughL1, kPastL1, kStream };

// The t-th step of add_products.
template <typename Dot, typename TilePlan, int kRowTiles, int kUsed, Reads kReads, typename Tiles,
          typename Begin>
[[gnu::always_inline]] inline void add_step(Tiles& tiles, const Operands operands, int64_t t,
                                            const Begin& begin) {
  const int64_t weight_bytes = operands.rows_per_tile * 64;
  const int64_t input_bytes = operands.rows_per_tile * 4;
  each<0, kUsed>([&](auto p) __attribute__((always_inline)) {
    constexpr int kB = TilePlan::b(p.value);
    const unsigned char* weights =
        operands.weights + p.value * operands.weights_stride + t * weight_bytes;
    if constexpr (kReads == Reads::kPastL1) {
      tiles.template load_past_l1<kB>(weights, 64);
    } else {
      tiles.template load<kB>(weights, 64);
    }
    if constexpr (kReads == Reads::kStream) {
      fetch_stream<Tiles>(weights, operands.rows_per_tile,
                          weights - t * weight_bytes + operands.panel_end, operands.weights_stride,
                          kUsed);
    }
    each<0, kRowTiles>([&](auto r) __attribute__((always_inline)) {
      constexpr int kA = TilePlan::a(r.value);
      if constexpr (p.value == 0) {
        tiles.template load<kA>(
            operands.in + r.value * kTileHeight * operands.in_stride + t * input_bytes,
            operands.in_stride);
      }
      begin(r, p);
      Dot::template add<TilePlan::c(r.value, p.value), kA, kB>(tiles);
      if constexpr (p.value + 1 == kUsed) tiles.template zero<kA>();
    });
    tiles.template zero<kB>();
  });
}

// Adds inputs times weights to the sums, which stay in their tiles; kUsed of the plan's panels.
// Each A and B tile is zeroed right after its last dot, and nothing is unrolled beyond that: the
// processor runs ahead by itself. begin(Index<row tile>, Index<panel>) comes before the first
// product of each tile of sums; beside() is other work that a step has time for.
//
// Lambdas in here are always_inline, so that GCC sees soon enough that what they refer to needs no
// memory: a load from the stack would wait for tiles that are being stored.
template <typename Dot, typename TilePlan, int kRowTiles, int kUsed,
          Reads kReads = Reads::kThroughL1, typename Tiles, typename Begin, typename Beside>
[[gnu::always_inline]] inline void add_products(Tiles& tiles, const Operands operands,
                                                const Begin& begin, const Beside& beside) {
  add_step<Dot, TilePlan, kRowTiles, kUsed, kReads>(tiles, operands, 0, begin);
  beside();
  for (int64_t t = 1; t < operands.num_tiles; ++t) {
    add_step<Dot, TilePlan, kRowTiles, kUsed, kReads>(tiles, operands, t, Nothing{});
    beside();
  }
}

// Where the sums of a block stand in memory: a row's panels side by side, 64 bytes each.
struct SumsPlace {
  unsigned char* first;
  int64_t stride;  // from row to row

  unsigned char* tile(int row_tile, int panel) const {
    return first + row_tile * kTileHeight * stride + panel * 64;
  }
};

template <typename TilePlan, int kRowTiles, int kUsed, typename Tiles>
[[gnu::always_inline]] inline void zero_sums(Tiles& tiles) {
  each<0, kRowTiles>([&](auto r) __attribute__((always_inline)) {
    each<0, kUsed>([&](auto p) __attribute__((always_inline)) {
      tiles.template zero<TilePlan::c(r.value, p.value)>();
    });
  });
}

template <typename TilePlan, int kRowTiles, int kUsed, typename Tiles>
[[gnu::always_inline]] inline void load_sums(Tiles& tiles, const SumsPlace& from) {
  each<0, kRowTiles>([&](auto r) __attribute__((always_inline)) {
    each<0, kUsed>([&](auto p) __attribute__((always_inline)) {
      tiles.template load<TilePlan::c(r.value, p.value)>(from.tile(r.value, p.value), from.stride);
    });
  });
}

template <typename TilePlan, int kRowTiles, int kUsed, typename Tiles>
[[gnu::always_inline]] inline void store_sums(Tiles& tiles, const SumsPlace& to) {
  each<0, kRowTiles>([&](auto r) __attribute__((always_inline)) {
    each<0, kUsed>([&](auto p) __attribute__((always_inline)) {
      tiles.template store<TilePlan::c(r.value, p.value)>(to.tile(r.value, p.value), to.stride);
    });
  });
}

// Blocks of rows that share one setting of the tiles.
struct RowBlocks {
  int64_t first_row;
  int64_t count;
  int64_t last_rows;  // of each block's last tile
};

// sweep(Index<row tiles>, Index<panels>, RowBlocks) for the whole blocks of a blocking and for the
// rows behind them: as many tiles as those fill, the last one with the rows that there are. A
// single tile of rows takes four panels at once.
template <int kRowTiles, int kPanels, typename Sweep>
void each_kind_of_block(int64_t num_rows, const Sweep& sweep) {
  static_assert(kRowTiles == 2 || kRowTiles == 3);
  constexpr int64_t kBlockRows = kRowTiles * kTileHeight;
  const int64_t num_whole = num_rows / kBlockRows;
  if (num_whole > 0) {
    sweep(Index<kRowTiles>{}, Index<kPanels>{}, RowBlocks{0, num_whole, kTileHeight});
  }
  const int64_t first_row = num_whole * kBlockRows;
  if (first_row == num_rows) return;
  const int64_t num_tiles = (num_rows - first_row + kTileHeight - 1) / kTileHeight;
  const RowBlocks rest{first_row, 1, num_rows - first_row - (num_tiles - 1) * kTileHeight};
  if (num_tiles == 1) {
    sweep(Index<1>{}, Index<4>{}, rest);
  } else if (num_tiles == 2) {
    sweep(Index<2>{}, Index<kPanels>{}, rest);
  } else if constexpr (kRowTiles == 3) {
    sweep(Index<3>{}, Index<kPanels>{}, rest);
  }
}

// set(Index<panels>, first panel) over all panels: sets of kPanels while there are so many, then
// single ones.
template <int kPanels, typename Set>
void each_set_of_panels(int64_t num_panels, const Set& set) {
  int64_t panel = 0;
  for (; panel + kPanels <= num_panels; panel += kPanels) set(Index<kPanels>{}, panel);
  for (; panel < num_panels; ++panel) set(Index<1>{}, panel);
}

// How often those two make a step for each B tile of a panel: what a Fetcher is told.
template <int kRowTiles, int kPanels>
int64_t num_blocks(int64_t num_panels, int64_t num_rows) {
  int64_t count = 0;
  each_kind_of_block<kRowTiles, kPanels>(num_rows, [&](auto, auto panels, const RowBlocks& rows) {
    count += (num_panels / panels.value + num_panels % panels.value) * rows.count;
  });
  return count;
}

// multiply(Index<row tiles>, Index<panels>).
template <typename Multiply>
void with_blocking(Blocking blocking, const Multiply& multiply) {
  switch (blocking) {
    case Blocking::k3x1:
      return multiply(Index<3>{}, Index<1>{});
    case Blocking::k2x2:
      return multiply(Index<2>{}, Index<2>{});
    case Blocking::k2x1:
      return multiply(Index<2>{}, Index<1>{});
  }
}

}  // namespace
}  // namespace tidemill

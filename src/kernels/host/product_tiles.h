// Cutting a product's panels into the tiles that a variant has. Included by the product_*.cc files
// of the variants; everything is in an unnamed namespace, so that nothing compiled with their flags
// can be linked into other files.
#pragma once

#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/inner.h"
#include "kernels/host/unroll.h"

namespace tidemill {
namespace {

using Tile = void (*)(const ProductTile&);

// Member by member: a copy of the whole would load in registers of 32 bytes what the caller has
// just stored in words, and so wait for all stores before it, those of the last tile's sums among
// them.
inline ProductTile copy_of(const ProductTile& tile) {
  return {.in = tile.in,
          .in_stride = tile.in_stride,
          .num_rows = tile.num_rows,
          .panels = tile.panels,
          .ahead = tile.ahead,
          .panels_are_near = tile.panels_are_near,
          .panel_stride = tile.panel_stride,
          .num_panels = tile.num_panels,
          .num_steps = tile.num_steps,
          .sums = tile.sums,
          .next_sums = tile.next_sums,
          .format = tile.format,
          .num_inputs = tile.num_inputs,
          .wanted = tile.wanted};
}

// All that only asks is inlined always: to GCC 12 a call of what has no effect but prefetching is
// dead code.

// Eight long panels are eight streams through memory, ahead of which a processor runs by itself.
// Fewer panels need to be asked for, and so do eight of int4 on a Xeon (Emerald Rapids), whose
// panels are short: kAsks.
template <int kPanels, bool kAsks = (kPanels < 8)>
[[gnu::always_inline]] inline void fetch_ahead(const unsigned char* panel_row) {
  constexpr int64_t kPrefetchBytes = kPanels < 8 ? 2048 : 768;
  if constexpr (kAsks) {
    _mm_prefetch(reinterpret_cast<const char*>(panel_row + kPrefetchBytes), _MM_HINT_T0);
  }
}

// But a stream is slow where it begins: while eight panels end, the beginnings of the eight behind
// them, where there are any, are asked for. `offset`: of panel p's line at hand.
template <int kPanels>
[[gnu::always_inline]] inline void fetch_beginning(const unsigned char* ahead, int64_t panel_stride,
                                                   int p, int64_t offset) {
  constexpr int64_t kBeginningBytes = 2048;
  if constexpr (kPanels == 8) {
    const int64_t skipped = panel_stride < kBeginningBytes ? 0 : panel_stride - kBeginningBytes;
    const int64_t line = offset - skipped;
    if (ahead == nullptr || line < 0) return;
    _mm_prefetch(reinterpret_cast<const char*>(ahead + p * panel_stride + line), _MM_HINT_T0);
  }
}

// What `tile.ahead` asks for, a line of each panel for every step. Without a wish these are lines
// of the tile itself, which are there.
inline const unsigned char* panels_ahead(const ProductTile& tile) {
  return tile.ahead != nullptr ? tile.ahead : tile.panels;
}

[[gnu::always_inline]] inline void fetch_panels(const unsigned char* ahead, int64_t panel_stride,
                                                int64_t step) {
  TIDEMILL_UNROLL
  for (int p = 0; p < kPanelsAhead; ++p) {
    _mm_prefetch(reinterpret_cast<const char*>(ahead + p * panel_stride + step * 64), _MM_HINT_T1);
  }
}

// The next `bytes` of other memory that is wanted, or null where there is none. At a run's end some
// of them have been asked for before, or lie behind it.
inline const unsigned char* take_wanted(MemoryAhead* wanted, int64_t bytes) {
  if (wanted == nullptr || wanted->next == wanted->end) return nullptr;
  const MemoryRun run = *wanted->next;
  int64_t begin = wanted->asked;
  if (run.bytes - begin > bytes) {
    wanted->asked += bytes;
  } else {
    begin = run.bytes > bytes ? run.bytes - bytes : 0;
    wanted->asked = 0;
    ++wanted->next;
  }
  return wanted->base + run.begin + begin;
}

// For tiles that compute for longer than memory takes to bring their own lines: at each of these
// they ask for kCount lines of what else is wanted. Where nothing is, those are of the tile itself.
template <int64_t kCount>
class OthersAhead {
 public:
  explicit OthersAhead(const ProductTile& tile) : lines_(tile.panels) {
    if constexpr (kCount > 0) {
      const unsigned char* const wanted = take_wanted(tile.wanted, kCount * tile.panel_stride);
      if (wanted == nullptr) return;
      lines_ = wanted;
      distance_ = kCount;
    }
  }
  // `offset`: in each panel, of the line at hand.
  [[gnu::always_inline]] void ask(int64_t offset) const {
    TIDEMILL_UNROLL
    for (int64_t i = 0; i < kCount; ++i) {
      const unsigned char* line = lines_ + distance_ * offset + i * 64;
      _mm_prefetch(reinterpret_cast<const char*>(line), _MM_HINT_T1);
    }
  }

 private:
  const unsigned char* lines_;
  int64_t distance_ = 0;  // from those of a line to those of the next, in lines
};

// Few rows wait for memory alone: every line of a tile's panels is asked for some lines ahead, and
// while the panels end those at tile.ahead, which are multiplied next. Into L2: four streams of an
// EPYC (Zen 4) that are asked for into L1 read at 0.6 to 0.9 of the speed, the less the shorter
// they are. And again half as far ahead: of what it is asked for while it waits for as much as it
// can, the processor forgets a part.
template <int kPanels>
class LinesAhead {
 public:
  explicit LinesAhead(const ProductTile& tile)
      : panels_(tile.panels),
        stride_(tile.panel_stride),
        behind_panel_((tile.ahead != nullptr ? tile.ahead - tile.panels : 0) - stride_) {}

  // `offset`: in each panel, of the line at hand.
  [[gnu::always_inline]] void ask(int64_t offset) const {
    ask_for(offset + kBytes);
    ask_for(offset + kBytesAgain);
  }

 private:
  [[gnu::always_inline]] void ask_for(int64_t wanted) const {
    const unsigned char* line = panels_ + wanted + (wanted < stride_ ? 0 : behind_panel_);
    TIDEMILL_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      _mm_prefetch(reinterpret_cast<const char*>(line + p * stride_), _MM_HINT_T1);
    }
  }

  static constexpr int64_t kBytes = 2048;
  static constexpr int64_t kBytesAgain = 1024;
  const unsigned char* panels_;
  int64_t stride_;
  int64_t behind_panel_;  // from there to the next one that is wanted, or back to where this begins
};

// kTilePanels at a time, for what takes no more.
template <typename Product>
void by_tile_panels(const ProductTile& whole, const Product& product) {
  ProductTile part = copy_of(whole);
  for (int64_t left = whole.num_panels; left > 0; left -= kTilePanels) {
    part.num_panels = left < kTilePanels ? left : kTilePanels;
    product(part);
    part.panels += kTilePanels * part.panel_stride;
    part.sums += part.next_sums;
  }
}

// Where a row's sums of panel p begin.
inline int64_t sums_of_panel(const ProductTile& tile, int64_t p) {
  return p / kTilePanels * tile.next_sums + p % kTilePanels * 16;
}

// tiles[rows - 1][w] computes 2^w panels; null where registers do not suffice. The widest first:
// more panels at once are more streams through memory.
template <int kRowKinds, int kWidths>
void run_tiles(ProductTile part, const Tile (&tiles)[kRowKinds][kWidths]) {
  const Tile* of_rows = tiles[part.num_rows - 1];
  int64_t left = part.num_panels;
  for (int width_log = kWidths - 1; width_log >= 0; --width_log) {
    const int64_t width = int64_t{1} << width_log;
    while (of_rows[width_log] != nullptr && left >= width) {
      of_rows[width_log](part);
      part.panels += width * part.panel_stride;
      if (part.ahead != nullptr) part.ahead += kPanelsAhead * part.panel_stride;
      part.sums += width * 16;
      left -= width;
    }
  }
}

// run_tiles for tiles that ask for LinesAhead: each is told which panels the next one takes.
template <int kRowKinds, int kWidths>
void run_streams(const ProductTile& whole, const Tile (&tiles)[kRowKinds][kWidths]) {
  const Tile* of_rows = tiles[whole.num_rows - 1];
  ProductTile part = copy_of(whole);
  int64_t left = whole.num_panels;
  for (int width_log = kWidths - 1; width_log >= 0; --width_log) {
    const int64_t width = int64_t{1} << width_log;
    for (; left >= width; left -= width) {
      const unsigned char* const next = part.panels + width * part.panel_stride;
      part.ahead = left > width ? next : whole.ahead;
      of_rows[width_log](part);
      part.panels = next;
      part.sums += width * 16;
    }
  }
}

// More rows than a tile has: four panels at a time stay in L2 for all of them. The first tile of
// rows streams what is not there yet, the ones behind it ask for the next panels, kPanelsAhead
// each.
inline constexpr int64_t kBlockPanels = 4;

// What those ask for.
struct PanelsAhead {
  explicit PanelsAhead(const ProductTile& tile)
      : ahead(panels_ahead(tile)), stride(tile.panel_stride) {}
  [[gnu::always_inline]] void ask(int64_t offset) const { fetch_panels(ahead + offset, stride, 0); }

  const unsigned char* ahead;
  int64_t stride;
};

template <int kRowKinds>
void run_blocks(const ProductTile& whole, const Tile (&streams)[kRowKinds][3],
                const Tile (&blocks)[kRowKinds]) {
  const int64_t num_tiles = (whole.num_rows + kRowKinds - 1) / kRowKinds;
  const int64_t tile_rows = (whole.num_rows + num_tiles - 1) / num_tiles;
  ProductTile part = copy_of(whole);
  for (int64_t panel = 0; panel < whole.num_panels; panel += kBlockPanels) {
    part.panels = whole.panels + panel * whole.panel_stride;
    const int64_t left = whole.num_panels - panel;
    part.num_panels = left < kBlockPanels ? left : kBlockPanels;
    const unsigned char* const next =
        left > kBlockPanels ? part.panels + kBlockPanels * whole.panel_stride : whole.ahead;
    for (int64_t row = 0; row < whole.num_rows; row += tile_rows) {
      part.in = whole.in + row * whole.in_stride;
      part.num_rows = whole.num_rows - row < tile_rows ? whole.num_rows - row : tile_rows;
      part.sums = whole.sums + row * kRowSums + panel * 16;
      const int64_t asked = (row / tile_rows - 1) * kPanelsAhead;
      if (asked < 0 || left < kBlockPanels) {
        part.ahead = next;
        run_streams(part, streams);
      } else {
        const bool asks = next != nullptr && asked < kBlockPanels;
        part.ahead = asks ? next + asked * part.panel_stride : nullptr;
        blocks[part.num_rows - 1](part);
      }
    }
  }
}

}  // namespace
}  // namespace tidemill

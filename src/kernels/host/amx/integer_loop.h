// Products of integers on tiles (their meaning: inner.h). Sums within a group are exact and the
// floats behind them stand in the order that all variants keep: the bits are theirs.
//
// Three things are under way at once: while the tiles of a group are multiplied, the sums of the
// group before, which its store has brought to memory, get their scales, a share of the rows beside
// each step; and int4 of the group behind is unpacked. A tile's load cannot take data from the
// store buffer, so that what is unpacked is loaded a group later.
//
// In an unnamed namespace, as attention_loop.h explains.
#pragma once

#include <stdint.h>

#include "kernels/host/amx/integer_portions.h"
#include "kernels/host/amx/integer_scales.h"
#include "kernels/host/amx/products.h"
#include "kernels/host/amx/tile_blocks.h"
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
  static constexpr int8_t kMiddleOfWeights = 8;
  template <int kC, int kA, int kB, typename Tiles>
  static void add(Tiles& tiles) {
    tiles.template dot_ss<kC, kA, kB>();
  }
};

// V: the floats of a panel's 16 channels (integer_vector_avx512.h, plain_vector.h).
template <typename Weights, typename V, typename Tiles>
class IntegerProduct {
 public:
  IntegerProduct(Tiles& tiles, const ProductTile& product)
      : tiles_(tiles),
        product_(product),
        has_middle_(product.format.offsets == Offsets::kNone),
        streams_(product.num_rows <= kTileHeight) {}

  // Passes, as those of floats: see multiply_bf16.
  template <int kRowTiles, int kPanels>
  void run() {
    PortionWalk walk(product_, Weights::kInputsPerRow);
    const int64_t per_pass =
        streams_ ? walk.num_tiles()
                 // A pass of whole groups: their totals stand where the sums of a part would.
                 : equal_passes(walk.num_tiles(), walk.tiles_per_group(), kRowTiles);
    while (walk.num_tiles() > 0) {
      Pass pass = next_pass(walk, per_pass);
      each_kind_of_block<kRowTiles, kPanels>(
          product_.num_rows, [&](auto row_tiles, auto panels, const RowBlocks& rows) {
            sweep<row_tiles.value, panels.value>(pass, rows);
            pass.next = nullptr;
          });
    }
  }

 private:
  using F = typename V::F;
  using I = typename V::I;

  // Unpacked int4 is used at once, two tiles of each panel in turn, or by several blocks of rows:
  // then it is a whole pass of all panels.
  static constexpr int64_t kRingTiles = 2;
  static constexpr int64_t kMaxSetPanels = 4;
  static constexpr int64_t kRingSlotBytes = kMaxSetPanels * kRingTiles * kTileBytes;
  static constexpr int64_t kPassPanelBytes = kMaxTilesPerPass * kTileBytes + 64;  // no power of two
  static constexpr int64_t kPassBytes = kTilePanels * kPassPanelBytes;
  static_assert(2 * kRingSlotBytes <= kPassBytes);
  static constexpr int64_t kMaxSums = 4;  // tiles of a block

  struct Pass {
    PortionWalk walk;
    int64_t first_input;
    int64_t num_tiles;
    int64_t num_rows;           // of 64 bytes of a panel
    const unsigned char* next;  // where the panels of the next pass begin; null: nothing is wanted
  };

  // What goes on beside products.
  struct Beside {
    Fetcher fetcher;
    WaitingSums<Weights::kMiddle, V> waiting;
    bool unpacked;  // a pass of all panels
  };

  static int64_t begin_of(PortionWalk walk) {
    Portion portion;
    walk.next(1, portion);
    return portion.rows;
  }

  // The pass that begins at `walk`, which then stands behind it.
  Pass next_pass(PortionWalk& walk, int64_t per_pass) const {
    Pass pass{.walk = walk,
              .first_input = product_.num_inputs - walk.num_tiles() * walk.tile_inputs(),
              .num_tiles = walk.num_tiles() < per_pass ? walk.num_tiles() : per_pass,
              .num_rows = 0,
              .next = nullptr};
    pass.walk.stop_after(pass.num_tiles);
    const int64_t begin = begin_of(walk);
    walk = pass.walk;
    for (Portion portion; walk.next(pass.num_tiles, portion);) {
    }
    walk.stop_after(INT64_MAX);
    const bool is_last = walk.num_tiles() == 0;
    const int64_t end = is_last ? product_.panel_stride : begin_of(walk);
    pass.num_rows = (end - begin) / 64;
    if (!is_last) {
      pass.next = product_.panels + end;
    } else if (!streams_) {
      pass.next = product_.ahead;
    }
    return pass;
  }

  template <int kRowTiles, int kPanels>
  void sweep(const Pass& pass, const RowBlocks& rows) {
    static_assert(kRowTiles * kPanels <= kMaxSums && kPanels <= kMaxSetPanels);
    using TilePlan = Plan<kRowTiles, kPanels>;
    tiles_.configure(TilePlan::shapes(rows.last_rows, pass.walk.tile_inputs() / 4));
    Beside beside{
        .fetcher = {.next = pass.next,
                    .panel_stride = product_.panel_stride,
                    .num_panels = product_.num_panels,
                    .num_rows = pass.num_rows,
                    .num_steps = pass.num_tiles * num_blocks<kPanels>(product_.num_panels, rows),
                    .credit = 0},
        .waiting = WaitingSums<Weights::kMiddle, V>(product_),
        .unpacked = is_unpacked_whole(pass, rows)};
    if (beside.unpacked) unpack_pass(pass);
    constexpr int64_t kBlockRows = kRowTiles * kTileHeight;
    for (int64_t b = 0; b < rows.count; ++b) {
      each_set_of_panels<kPanels>(product_.num_panels, [&](auto used, int64_t panel) {
        multiply_block<TilePlan, kRowTiles, used.value>(pass, beside, panel,
                                                        rows.first_row + b * kBlockRows,
                                                        kBlockRows - kTileHeight + rows.last_rows);
      });
    }
    beside.waiting.finish();
  }

  static bool is_unpacked_whole(const Pass& pass, const RowBlocks& rows) {
    return Weights::kPacked && rows.count > 1 && pass.num_tiles <= kMaxTilesPerPass;
  }

  template <typename TilePlan, int kRowTiles, int kUsed>
  void multiply_block(const Pass& pass, Beside& beside, int64_t panel, int64_t row,
                      int64_t num_rows) {
    constexpr int64_t kPartialStride = kTilePanels * 64;
    const SumsPlace partial{
        reinterpret_cast<unsigned char*>(product_.sums) + row * kPartialStride + panel * 64,
        kPartialStride};
    if (beside.waiting.num_panels() != kUsed) beside.waiting.finish();
    const bool in_turn = Weights::kPacked && !beside.unpacked;
    const int64_t max_tiles = in_turn ? kRingTiles : pass.num_tiles;
    PortionWalk walk = pass.walk;
    Portion portion;
    Portion behind;
    bool is_any = walk.next(max_tiles, portion);
    unsigned char* unpacked = unpacked_;
    unsigned char* unpacked_behind = unpacked_ + kRingSlotBytes;
    if (in_turn) unpack(panel, kUsed, portion, unpacked, kRingTiles * kTileBytes);
    if (!portion.starts) load_sums<TilePlan, kRowTiles, kUsed>(tiles_, partial);
    while (is_any) {
      is_any = walk.next(max_tiles, behind);
      if (in_turn && is_any) {
        unpack(panel, kUsed, behind, unpacked_behind, kRingTiles * kTileBytes);
      }
      if (portion.starts) zero_sums<TilePlan, kRowTiles, kUsed>(tiles_);
      Operands operands = operands_of(pass, portion, panel, row);
      if (in_turn) {
        operands.weights = unpacked;
        operands.weights_stride = kRingTiles * kTileBytes;
      } else if (beside.unpacked) {
        operands.weights = unpacked_at(pass, portion, panel);
        operands.weights_stride = kPassPanelBytes;
      }
      add_products<Weights, TilePlan, kRowTiles, kUsed>(tiles_, operands, [&](int64_t t) {
        beside.fetcher.template advance<Tiles>();
        beside.waiting.template apply_scales<kUsed>(portion.tiles_to_sum - t);
      });
      if (portion.ends) {
        store_sums<TilePlan, kRowTiles, kUsed>(tiles_, {sums_[slot_], kUsed * 64});
        if (streams_) fetch_scales<kUsed>(panel, portion);
        beside.waiting.add(sums_[slot_], {row, num_rows}, {panel, kUsed}, portion);
        slot_ = 1 - slot_;
      } else if (!is_any) {
        store_sums<TilePlan, kRowTiles, kUsed>(tiles_, partial);
      }
      portion = behind;
      unsigned char* const used_up = unpacked;
      unpacked = unpacked_behind;
      unpacked_behind = used_up;
    }
  }

  Operands operands_of(const Pass& pass, const Portion& portion, int64_t panel, int64_t row) const {
    return {.in = product_.in + row * product_.in_stride + portion.inputs,
            .in_stride = product_.in_stride,
            .weights = product_.panels + panel * product_.panel_stride + portion.rows,
            .weights_stride = product_.panel_stride,
            .rows_per_tile = pass.walk.tile_inputs() / 4,
            .num_tiles = portion.num_tiles,
            .streams = streams_ && !Weights::kPacked,
            .panel_end = product_.panel_stride - portion.rows};
  }

  // Where a portion of a pass that is unpacked as a whole begins.
  unsigned char* unpacked_at(const Pass& pass, const Portion& portion, int64_t panel) {
    return unpacked_ + panel * kPassPanelBytes +
           (portion.inputs - pass.first_input) * kPanelChannels;
  }

  // A row of eight inputs becomes two of four bytes each, in the order in which the activations
  // lie.
  void unpack(int64_t panel, int64_t num_panels, const Portion& portion, unsigned char* to,
              int64_t to_stride) {
    if constexpr (Weights::kPacked) {
      I middle = V::set1_byte(has_middle_ ? Weights::kMiddleOfWeights : int8_t{0});
      for (int64_t p = 0; p < num_panels; ++p) {
        const unsigned char* from =
            product_.panels + (panel + p) * product_.panel_stride + portion.rows;
        if (product_.format.offsets == Offsets::kZero) {
          middle = V::spread_bytes(from - portion.rows + portion.scales + 32);
        }
        for (int64_t row = 0; row < portion.num_rows; ++row) {
          if (streams_) {
            fetch_stream<Tiles>(from + row * 64, 1, from - portion.rows + product_.panel_stride,
                                product_.panel_stride, num_panels);
          }
          const I packed = V::load(from + row * 64);
          unsigned char* target = to + p * to_stride + row * 128;
          V::store_bytes(target, V::subtract_bytes(V::low_nibbles(packed), middle));
          V::store_bytes(target + 64,
                         V::subtract_bytes(V::low_nibbles(V::shift_words_right(packed)), middle));
        }
      }
    }
  }

  void unpack_pass(const Pass& pass) {
    PortionWalk walk = pass.walk;
    for (Portion portion; walk.next(pass.num_tiles, portion);) {
      unpack(0, product_.num_panels, portion, unpacked_at(pass, portion, 0), kPassPanelBytes);
    }
  }

  // Two groups may share a row of scales.
  template <int kUsed>
  void fetch_scales(int64_t panel, const Portion& portion) const {
    if (portion.scales % 64 != 0) return;
    for (int p = 0; p < kUsed; ++p) {
      const unsigned char* begin = product_.panels + (panel + p) * product_.panel_stride;
      fetch_stream<Tiles>(begin + portion.scales, 1, begin + product_.panel_stride,
                          product_.panel_stride, kUsed);
    }
  }

  Tiles& tiles_;
  const ProductTile product_;
  const bool has_middle_;
  const bool streams_;
  int slot_ = 0;
  alignas(64) unsigned char sums_[2][kMaxSums * kTileBytes];
  alignas(64) unsigned char unpacked_[Weights::kPacked ? kPassBytes : 64];
};

inline Blocking blocking_of(const PackedFormat& format) {
  return format.group == 0 ? kDefaultBlocking : kGroupsBlocking;
}

// By another variant's product, which takes kTileRows rows. Where there are more, the first of them
// bring the panels into the cache; what comes behind is fetched beside the others (inner.h).
inline void few_rows(const ProductTile& tile, void (*product)(const ProductTile&)) {
  for (int64_t row = 0; row < tile.num_rows; row += kTileRows) {
    ProductTile part = tile;
    part.in += row * tile.in_stride;
    part.sums += row * kRowSums;
    if (row == 0 && tile.num_rows > kTileRows) part.ahead = nullptr;
    part.num_rows = tile.num_rows - row < kTileRows ? tile.num_rows - row : int64_t{kTileRows};
    product(part);
  }
}

template <typename Weights, typename V, typename Tiles>
void multiply_integers(Blocking blocking, Tiles& tiles, const ProductTile& product) {
  IntegerProduct<Weights, V, Tiles> integers(tiles, product);
  with_blocking(blocking, [&](auto row_tiles, auto panels) {
    integers.template run<row_tiles.value, panels.value>();
  });
}

}  // namespace
}  // namespace tidemill

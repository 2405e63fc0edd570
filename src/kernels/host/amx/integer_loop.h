// Products of integers on tiles (their meaning: inner.h). Sums within a group are exact and the
// floats behind them stand in the order that all variants keep: the bits are theirs.
//
// A few groups at a time, first their products, then their scales: a tile's instruction leaves one
// of the two units for floats of 512 bits idle for a while, so that a little of each in turn takes
// longer. int4 is unpacked before, a pass of all panels.
//
// In an unnamed namespace, as attention_loop.h explains.
#pragma once

#include <stdint.h>

#include "kernels/host/amx/integer_groups.h"
#include "kernels/host/amx/integer_portions.h"
#include "kernels/host/amx/integer_scales.h"
#include "kernels/host/amx/integer_stream.h"
#include "kernels/host/amx/integer_weights.h"
#include "kernels/host/amx/products.h"
#include "kernels/host/amx/tile_blocks.h"
#include "kernels/host/inner.h"

namespace tidemill {
namespace {

// V: the floats of a panel's 16 channels (integer_vector_avx512.h, plain_vector.h).
template <typename Weights, typename V, typename Tiles>
class IntegerProduct {
 public:
  IntegerProduct(Tiles& tiles, const ProductTile& product)
      : tiles_(tiles), product_(product), tile_inputs_(tile_inputs_of(product.format)) {}

  // Passes, as those of floats: see multiply_bf16.
  template <int kRowTiles, int kPanels>
  void run() {
    PortionWalk walk(product_, Weights::kInputsPerRow);
    // A pass of whole groups: their totals stand where the sums of a part would.
    const int64_t per_pass = equal_passes(walk.num_tiles(), walk.tiles_per_group(), kRowTiles);
    while (walk.num_tiles() > 0) {
      Pass pass;
      begin_pass(walk, per_pass, pass);
      if constexpr (Weights::kPacked) unpack_pass(pass);
      Fetcher fetcher{.next = pass.next,
                      .panel_stride = product_.panel_stride,
                      .num_panels = product_.num_panels,
                      .num_rows = pass.num_rows,
                      .num_steps = pass.num_tiles * num_blocks<kRowTiles, kPanels>(
                                                        product_.num_panels, product_.num_rows),
                      .credit = 0};
      each_kind_of_block<kRowTiles, kPanels>(
          product_.num_rows, [&](auto row_tiles, auto panels, const RowBlocks& rows) {
            sweep<row_tiles.value, panels.value>(pass, rows, fetcher);
          });
    }
  }

 private:
  // Unpacked int4: a pass of all panels, which all blocks of rows use.
  static constexpr int64_t kPassPanelBytes = kMaxTilesPerPass * kTileBytes + 64;  // no power of two
  static constexpr int64_t kPassBytes = kTilePanels * kPassPanelBytes;
  // Sums of groups whose products are made before their scales are applied.
  static constexpr int64_t kSumsBytes = 12 * kTileBytes;

  // Whole groups, or a part of one.
  static constexpr int64_t kMaxPortions = kGroupsPerPass;
  struct Pass {
    Portion portions[kMaxPortions];
    int64_t num_portions;
    int64_t num_tiles;
    int64_t num_rows;           // of 64 bytes of a panel
    const unsigned char* next;  // where the panels of the next pass begin; null: nothing is wanted
  };

  static int64_t begin_of(PortionWalk walk) {
    Portion portion;
    walk.next(1, portion);
    return portion.rows;
  }

  // The pass that begins at `walk`, which then stands behind it.
  void begin_pass(PortionWalk& walk, int64_t per_pass, Pass& pass) const {
    const int64_t begin = begin_of(walk);
    pass.num_portions = pass.num_tiles = 0;
    while (pass.num_tiles < per_pass &&
           walk.next(per_pass - pass.num_tiles, pass.portions[pass.num_portions])) {
      pass.num_tiles += pass.portions[pass.num_portions++].num_tiles;
    }
    const bool is_last = walk.num_tiles() == 0;
    const int64_t end = is_last ? product_.panel_stride : begin_of(walk);
    pass.num_rows = (end - begin) / 64;
    pass.next = is_last ? product_.ahead : product_.panels + end;
  }

  template <int kRowTiles, int kPanels>
  void sweep(const Pass& pass, const RowBlocks& rows, Fetcher& fetcher) {
    using TilePlan = Plan<kRowTiles, kPanels>;
    tiles_.configure(TilePlan::shapes(rows.last_rows, tile_inputs_ / 4));
    constexpr int64_t kBlockRows = kRowTiles * kTileHeight;
    for (int64_t b = 0; b < rows.count; ++b) {
      const Part block{rows.first_row + b * kBlockRows, kBlockRows - kTileHeight + rows.last_rows};
      if (product_.format.group == 0) {
        each_set_of_panels<kPanels>(product_.num_panels, [&](auto used, int64_t panel) {
          multiply_part<TilePlan, kRowTiles, used.value>(pass, fetcher, panel, block.first);
        });
        if (pass.portions[0].ends) scale_channels(pass, block);
      } else {
        inputs_.turn(product_, block, {pass.portions[0].group, pass.num_portions});
        each_set_of_panels<kPanels>(product_.num_panels, [&](auto used, int64_t panel) {
          multiply_groups<TilePlan, kRowTiles, used.value>(pass, fetcher, panel, block);
        });
      }
    }
  }

  // Of whole channels: a pass of their inputs, the sums where the floats will be.
  template <typename TilePlan, int kRowTiles, int kUsed>
  void multiply_part(const Pass& pass, Fetcher& fetcher, int64_t panel, int64_t row) {
    const Portion& part = pass.portions[0];
    const SumsPlace sums{
        reinterpret_cast<unsigned char*>(product_.sums + row * kRowSums) + panel * 64,
        kRowSums * 4};
    if (part.starts) {
      zero_sums<TilePlan, kRowTiles, kUsed>(tiles_);
    } else {
      load_sums<TilePlan, kRowTiles, kUsed>(tiles_, sums);
    }
    Fetcher fetching = fetcher;
    add_products<Weights, TilePlan, kRowTiles, kUsed>(
        tiles_, operands_of(pass, part, panel, row),
        Nothing{}, [&]() __attribute__((always_inline)) { fetching.template advance<Tiles>(1); });
    fetcher = fetching;
    store_sums<TilePlan, kRowTiles, kUsed>(tiles_, sums);
  }

  void scale_channels(const Pass& pass, Part rows) {
    inputs_.turn(product_, rows, {0, 1});
    const auto* sums =
        reinterpret_cast<const unsigned char*>(product_.sums + rows.first * kRowSums);
    add_scaled_block<Weights::kMiddle, V>(product_, GroupSums<kRowSums * 4, 0>{sums, 1}, rows,
                                          {0, product_.num_panels}, pass.portions,
                                          inputs_.of_group(0), /*from_zero=*/true);
  }

  template <typename TilePlan, int kRowTiles, int kUsed>
  void multiply_groups(const Pass& pass, Fetcher& fetcher, int64_t panel, Part rows) {
    constexpr int64_t kGroupBytes = kRowTiles * kUsed * kTileBytes;
    constexpr int64_t kMost = kSumsBytes / kGroupBytes;
    static_assert(kMost >= 1);
    for (int64_t begin = 0; begin < pass.num_portions;) {
      const int64_t left = pass.num_portions - begin;
      const int64_t batches = (left + kMost - 1) / kMost;
      const int64_t count = (left + batches - 1) / batches;
      const Portion& first = pass.portions[begin];
      add_groups<Weights, TilePlan, kRowTiles, kUsed>(
          tiles_, operands_of(pass, first, panel, rows.first), &first, count, sums_);
      add_scaled_block<Weights::kMiddle, V>(
          product_, GroupSums<kUsed * 64, kGroupBytes>{sums_, count}, rows, {panel, kUsed}, &first,
          inputs_.of_group(begin), first.group == 0);
      int64_t num_tiles = 0;
      for (int64_t i = 0; i < count; ++i) num_tiles += pass.portions[begin + i].num_tiles;
      fetcher.template advance<Tiles>(num_tiles);
      begin += count;
    }
  }

  Operands operands_of(const Pass& pass, const Portion& portion, int64_t panel, int64_t row) const {
    Operands operands{.in = product_.in + row * product_.in_stride + portion.inputs,
                      .in_stride = product_.in_stride,
                      .weights = product_.panels + panel * product_.panel_stride + portion.rows,
                      .weights_stride = product_.panel_stride,
                      .rows_per_tile = tile_inputs_ / 4,
                      .num_tiles = portion.num_tiles};
    if constexpr (Weights::kPacked) {
      operands.weights = unpacked_ + unpacked_offset(pass, portion, panel);
      operands.weights_stride = kPassPanelBytes;
    }
    return operands;
  }

  // Where a portion of a pass stands when it is unpacked.
  static int64_t unpacked_offset(const Pass& pass, const Portion& portion, int64_t panel) {
    return panel * kPassPanelBytes + (portion.inputs - pass.portions[0].inputs) * kPanelChannels;
  }

  void unpack_pass(const Pass& pass) {
    for (int64_t i = 0; i < pass.num_portions; ++i) {
      const Portion& portion = pass.portions[i];
      for (int64_t p = 0; p < product_.num_panels; ++p) {
        const unsigned char* panel = product_.panels + p * product_.panel_stride;
        const typename V::I middle = middle_of_int4<V>(product_.format, panel, portion.scales);
        unsigned char* const to = unpacked_ + unpacked_offset(pass, portion, p);
        for (int64_t row = 0; row < portion.num_rows; ++row) {
          unpack_int4<V>(panel + portion.rows + row * 64, middle, to + row * 128);
        }
      }
    }
  }

  Tiles& tiles_;
  const ProductTile product_;
  const int64_t tile_inputs_;
  InputScales<Weights::kMiddle, kGroupsPerPass> inputs_;
  alignas(64) unsigned char sums_[kSumsBytes];
  alignas(64) unsigned char unpacked_[Weights::kPacked ? kPassBytes : 64];
};

inline Blocking blocking_of(const PackedFormat& format) {
  return format.group == 0 ? kDefaultBlocking : kGroupsBlocking;
}

// Some rows of a product, from `row` on.
inline ProductTile rows_of(const ProductTile& product, int64_t row, int64_t most) {
  ProductTile part = product;
  part.in += row * product.in_stride;
  part.sums += row * kRowSums;
  part.num_rows = product.num_rows - row < most ? product.num_rows - row : most;
  return part;
}

// At most two tiles of rows.
template <typename Weights, typename V, typename Tiles>
void stream_integers(Tiles& tiles, const ProductTile& product) {
  if (product.num_rows <= kTileHeight) {
    IntegerStream<1, Weights, V, Tiles>(tiles, product).run();
  } else {
    IntegerStream<2, Weights, V, Tiles>(tiles, product).run();
  }
}

template <typename Weights, typename V, typename Tiles>
void multiply_integers(Blocking blocking, Tiles& tiles, const ProductTile& product) {
  if (product.num_rows <= kStreamRows) return stream_integers<Weights, V>(tiles, product);
  if (Weights::kPacked && product.format.group > kMaxTilesPerPass * 64) {
    // A pass would have to end within a group.
    for (int64_t row = 0; row < product.num_rows; row += kStreamRows) {
      stream_integers<Weights, V>(tiles, rows_of(product, row, kStreamRows));
    }
    return;
  }
  IntegerProduct<Weights, V, Tiles> integers(tiles, product);
  with_blocking(blocking, [&](auto row_tiles, auto panels) {
    integers.template run<row_tiles.value, panels.value>();
  });
}

}  // namespace
}  // namespace tidemill

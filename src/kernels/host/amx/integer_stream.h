// Products of integers on tiles (their meaning: inner.h) for few rows: weights come from memory,
// and each is used once. One group after the other, its products, its sums and its scales, and
// nothing beside anything: that takes so little of L1 that the processor's own running ahead does
// better than the order of integer_loop.h, which is for more rows.
//
// In an unnamed namespace, as attention_loop.h explains.
#pragma once

#include <stdint.h>

#include "kernels/host/amx/integer_portions.h"
#include "kernels/host/amx/integer_scales.h"
#include "kernels/host/amx/integer_weights.h"
#include "kernels/host/amx/tile_blocks.h"
#include "kernels/host/inner.h"
#include "kernels/host/product_groups.h"
#include "kernels/host/unroll.h"

namespace tidemill {
namespace {

// Asks for the lines of panels in the order in which sets of them are read, kStreamBytes ahead: a
// row of 64 bytes of each panel for each row that is read.
template <typename Tiles>
class StreamAhead {
 public:
  // num_together: panels of the first set.
  StreamAhead(const unsigned char* panels, int64_t panel_stride, int64_t num_together)
      : first_(panels + kStreamBytes / panel_stride * num_together * panel_stride),
        panel_stride_(panel_stride),
        row_(kStreamBytes % panel_stride) {}

  // Of kUsed panels; behind their ends come those of the panels behind them.
  template <int kUsed>
  void fetch_row() {
    TIDEMILL_UNROLL
    for (int p = 0; p < kUsed; ++p) Tiles::fetch(first_ + p * panel_stride_ + row_);
    row_ += 64;
    if (row_ != panel_stride_) return;
    first_ += kUsed * panel_stride_;
    row_ = 0;
  }

 private:
  const unsigned char* first_;
  const int64_t panel_stride_;
  int64_t row_;  // bytes
};

// kRowTiles: 1 or 2, as many as the rows fill. V: see IntegerProduct.
template <int kRowTiles, typename Weights, typename V, typename Tiles>
class IntegerStream {
 public:
  IntegerStream(Tiles& tiles, const ProductTile& product)
      : tiles_(tiles),
        product_(product),
        tile_inputs_(tile_inputs_of(product.format)),
        ahead_(product.panels, product.panel_stride, product.num_panels < kPanels ? 1 : kPanels) {}

  void run() {
    tiles_.configure(
        TilePlan::shapes(product_.num_rows - (kRowTiles - 1) * kTileHeight, tile_inputs_ / 4));
    each_set_of_panels<kPanels>(product_.num_panels,
                                [&](auto used, int64_t panel) { multiply<used.value>(panel); });
  }

 private:
  using I = typename V::I;
  static constexpr int kPanels = 4 / kRowTiles;
  using TilePlan = Plan<kRowTiles, kPanels>;
  static constexpr int64_t kTilesAtOnce = 2;

  template <int kUsed>
  void multiply(int64_t first_panel) {
    const unsigned char* const panels = product_.panels + first_panel * product_.panel_stride;
    WaitingSums<Weights::kMiddle, V> sums(product_);
    int64_t input = 0;
    for (GroupWalk group(product_, Weights::kInputsPerRow); group.next();) {
      zero_sums<TilePlan, kRowTiles, kUsed>(tiles_);
      add_group<kUsed>(panels, group, input);
      if (group.scales % 64 == 0) ahead_.template fetch_row<kUsed>();  // two may share a row
      store_sums<TilePlan, kRowTiles, kUsed>(tiles_, {sums_, kUsed * 64});
      sums.add(sums_, {0, product_.num_rows}, {first_panel, kUsed}, group.index, group.scales);
      sums.template apply_scales<kUsed>(1);
      input += group.num_rows * Weights::kInputsPerRow;
    }
  }

  // A group's products, its inputs from `input` on.
  template <int kUsed>
  void add_group(const unsigned char* panels, const GroupWalk& group, int64_t input) {
    I middles[kUsed];
    if constexpr (Weights::kPacked) {
      TIDEMILL_UNROLL
      for (int p = 0; p < kUsed; ++p) {
        middles[p] =
            middle_of_int4<V>(product_.format, panels + p * product_.panel_stride, group.scales);
      }
    }
    const int64_t rows_per_tile = tile_inputs_ / Weights::kInputsPerRow;
    const int64_t most_rows = kTilesAtOnce * rows_per_tile;
    for (int64_t row = 0; row < group.num_rows; row += most_rows) {
      const int64_t left = group.num_rows - row;
      const int64_t num_rows = left < most_rows ? left : most_rows;
      const unsigned char* rows = panels + group.rows + row * 64;
      Operands operands{.in = product_.in + input + row * Weights::kInputsPerRow,
                        .in_stride = product_.in_stride,
                        .weights = rows,
                        .weights_stride = product_.panel_stride,
                        .rows_per_tile = tile_inputs_ / 4,
                        .num_tiles = num_rows / rows_per_tile};
      if constexpr (Weights::kPacked) {
        unpack<kUsed>(rows, num_rows, middles);
        operands.weights = unpacked_;
        operands.weights_stride = kTilesAtOnce * kTileBytes;
      }
      add_products<Weights, TilePlan, kRowTiles, kUsed>(tiles_, operands, [&](int64_t) {
        if constexpr (Weights::kPacked) return;  // asked for while they were unpacked
        for (int64_t line = 0; line < rows_per_tile; ++line) ahead_.template fetch_row<kUsed>();
      });
    }
  }

  template <int kUsed>
  void unpack(const unsigned char* rows, int64_t num_rows, const I (&middles)[kUsed]) {
    for (int64_t row = 0; row < num_rows; ++row) {
      ahead_.template fetch_row<kUsed>();
      TIDEMILL_UNROLL
      for (int p = 0; p < kUsed; ++p) {
        unpack_int4<V>(rows + p * product_.panel_stride + row * 64, middles[p],
                       unpacked_ + p * kTilesAtOnce * kTileBytes + row * 128);
      }
    }
  }

  Tiles& tiles_;
  const ProductTile product_;
  const int64_t tile_inputs_;
  StreamAhead<Tiles> ahead_;
  alignas(64) unsigned char sums_[kRowTiles * kPanels * kTileBytes];
  alignas(64) unsigned char unpacked_[Weights::kPacked ? kPanels * kTilesAtOnce * kTileBytes : 64];
};

}  // namespace
}  // namespace tidemill

// Products of integers on tiles (their meaning: inner.h) for few rows: weights come from memory,
// and each is used once. One or two groups after the other, their products, their sums and their
// scales, straight from the panels: that takes so little of L1 that the processor's own running
// ahead does better than the passes of integer_loop.h, which are for more rows. Each tile of int8
// asks for one ahead of it: 0.86 to 1.0 of the time of asking for those of some tiles at a time.
//
// In an unnamed namespace, as attention_loop.h explains.
#pragma once

#include <stdint.h>

#include "kernels/host/amx/integer_groups.h"
#include "kernels/host/amx/integer_portions.h"
#include "kernels/host/amx/integer_scales.h"
#include "kernels/host/amx/integer_weights.h"
#include "kernels/host/amx/tile_blocks.h"
#include "kernels/host/inner.h"
#include "kernels/host/product_groups.h"
#include "kernels/host/unroll.h"

namespace tidemill {
namespace {

// What int4 asks for as its rows are read: the lines of panels in the order in which sets of them
// are, kStreamBytes ahead, a row of 64 bytes of each panel for each row that is read. (A row of
// zeros behind panels is never read: there it falls behind by one.)
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
        rows_per_tile_(tile_inputs_ / Weights::kInputsPerRow),
        ahead_(product.panels, product.panel_stride, product.num_panels < kPanels ? 1 : kPanels),
        num_groups_(groups_of(product)) {}

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
  static constexpr int64_t kGroupsAtOnce = 2;
  // Groups whose scales of inputs are kept turned: all of them, for all sets of panels, where there
  // are no more than this (32 rows of int4 in groups of 64 take 0.92 of the time, int8 in groups no
  // more than before); else some that follow each other.
  static constexpr int64_t kMostTurned = 96;
  static constexpr int64_t kTurnedAtOnce = 20;
  // Of a panel: int4 that is unpacked, and in how many tiles two groups go together.
  static constexpr int64_t kTilesAtOnce = Weights::kPacked ? 8 / kPanels : 4;

  // What is known of a group of a panel (GroupWalk).
  struct Group {
    int64_t rows, num_rows, next_rows, num_tiles, scales;
  };
  // Groups that follow each other.
  struct Batch {
    int64_t first;  // index
    int64_t count;
    Group groups[kGroupsAtOnce];
  };

  template <int kUsed>
  void multiply(int64_t first_panel) {
    const unsigned char* const panels = product_.panels + first_panel * product_.panel_stride;
    const int64_t group = product_.format.group;
    const bool several = group > 0 && kGroupsAtOnce * group <= kTilesAtOnce * tile_inputs_;
    const int64_t most = several ? kGroupsAtOnce : 1;
    GroupWalk walk(product_, Weights::kInputsPerRow);
    Batch batch;
    const unsigned char* in = product_.in;
    for (bool more = walk.next(); more;) {
      batch.first = walk.index;
      batch.count = 0;
      int64_t num_rows = 0;
      do {
        batch.groups[batch.count++] = {walk.rows, walk.num_rows, walk.next_rows(),
                                       walk.num_rows / rows_per_tile_, walk.scales};
        num_rows += walk.num_rows;
        more = walk.next();
      } while (more && batch.count < most);
      if (several) {
        add_several<kUsed>(panels, batch, in);
      } else if constexpr (Weights::kPacked) {
        add_in_parts<kUsed>(panels, batch.groups[0], in);
      } else {
        add_whole<kUsed>(panels, batch.groups[0], in);
      }
      scale<kUsed>(first_panel, batch);
      in += num_rows * Weights::kInputsPerRow;
    }
  }

  // rows: offset in the panels.
  Operands operands_of(const unsigned char* in, const unsigned char* panels, int64_t rows) const {
    Operands operands{.in = in,
                      .in_stride = product_.in_stride,
                      .weights = unpacked_,
                      .weights_stride = kTilesAtOnce * kTileBytes,
                      .rows_per_tile = tile_inputs_ / 4,
                      .num_tiles = 0};
    if constexpr (!Weights::kPacked) {
      operands.weights = panels + rows;
      operands.weights_stride = product_.panel_stride;
      operands.panel_end = product_.panel_stride - rows;
    }
    return operands;
  }

  template <int kUsed>
  void add_several(const unsigned char* panels, const Batch& batch, const unsigned char* in) {
    unsigned char* to = unpacked_;
    for (int64_t i = 0; i < batch.count; ++i) {
      to = unpack<kUsed>(panels, batch.groups[i], 0, batch.groups[i].num_rows, to);
    }
    constexpr Reads kReads = Weights::kPacked ? Reads::kThroughL1 : Reads::kStream;
    add_groups<Weights, TilePlan, kRowTiles, kUsed, kReads>(
        tiles_, operands_of(in, panels, batch.groups[0].rows), batch.groups, batch.count, sums_);
  }

  template <int kUsed>
  void add_whole(const unsigned char* panels, const Group& group, const unsigned char* in) {
    Operands operands = operands_of(in, panels, group.rows);
    operands.num_tiles = group.num_tiles;
    zero_sums<TilePlan, kRowTiles, kUsed>(tiles_);
    add_products<Weights, TilePlan, kRowTiles, kUsed, Reads::kStream>(tiles_, operands, Nothing{},
                                                                      Nothing{});
    store_sums<TilePlan, kRowTiles, kUsed>(tiles_, {sums_, kUsed * 64});
  }

  template <int kUsed>
  void add_in_parts(const unsigned char* panels, const Group& group, const unsigned char* in) {
    const int64_t most_rows = kTilesAtOnce * rows_per_tile_;
    zero_sums<TilePlan, kRowTiles, kUsed>(tiles_);
    for (int64_t row = 0; row < group.num_rows; row += most_rows) {
      const int64_t left = group.num_rows - row;
      const int64_t num_rows = left < most_rows ? left : most_rows;
      unpack<kUsed>(panels, group, row, num_rows, unpacked_);
      Operands operands = operands_of(in + row * Weights::kInputsPerRow, panels, group.rows);
      operands.num_tiles = num_rows / rows_per_tile_;
      add_products<Weights, TilePlan, kRowTiles, kUsed>(tiles_, operands, Nothing{}, Nothing{});
    }
    store_sums<TilePlan, kRowTiles, kUsed>(tiles_, {sums_, kUsed * 64});
  }

  // Of int4, some rows of a group are unpacked to `to`, and those ahead of them asked for. Returns
  // where the next ones go.
  template <int kUsed>
  unsigned char* unpack(const unsigned char* panels, const Group& group, int64_t row,
                        int64_t num_rows, unsigned char* to) {
    if constexpr (Weights::kPacked) {
      I middles[kUsed];
      TIDEMILL_UNROLL
      for (int p = 0; p < kUsed; ++p) {
        middles[p] =
            middle_of_int4<V>(product_.format, panels + p * product_.panel_stride, group.scales);
      }
      const unsigned char* rows = panels + group.rows + row * 64;
      for (int64_t r = 0; r < num_rows; ++r) {
        ahead_.template fetch_row<kUsed>();
        TIDEMILL_UNROLL
        for (int p = 0; p < kUsed; ++p) {
          unpack_int4<V>(rows + p * product_.panel_stride, middles[p],
                         to + p * kTilesAtOnce * kTileBytes);
        }
        rows += 64;
        to += 128;
      }
    }
    return to;
  }

  template <int kUsed>
  void scale(int64_t first_panel, const Batch& batch) {
    constexpr int64_t kGroupBytes = kRowTiles * kUsed * kTileBytes;
    for (int64_t i = 0; i < batch.count; ++i) {
      // Two groups may share a row.
      if (batch.groups[i].scales % 64 == 0) fetch_scales<kUsed>(first_panel, batch.groups[i]);
    }
    const Part rows{0, product_.num_rows};
    const int64_t first = batch.first;
    if (first < turned_.first || first + batch.count > turned_.first + turned_.count) {
      const int64_t left = num_groups_ - first;
      const int64_t most = num_groups_ <= kMostTurned ? kMostTurned : kTurnedAtOnce;
      turned_ = {first, left < most ? left : most};
      inputs_.turn(product_, rows, turned_);
    }
    add_scaled_block<Weights::kMiddle, V>(
        product_, GroupSums<kUsed * 64, kGroupBytes>{sums_, batch.count}, rows,
        {first_panel, kUsed}, batch.groups, inputs_.of_group(first - turned_.first), first == 0);
  }

  template <int kUsed>
  void fetch_scales(int64_t first_panel, const Group& group) {
    if constexpr (Weights::kPacked) {
      ahead_.template fetch_row<kUsed>();
    } else {
      const int64_t stride = product_.panel_stride;
      const unsigned char* panel = product_.panels + first_panel * stride;
      for (int p = 0; p < kUsed; ++p, panel += stride) {
        fetch_stream<Tiles>(panel + group.scales, 1, panel + stride, stride, kUsed);
      }
    }
  }

  Tiles& tiles_;
  const ProductTile product_;
  const int64_t tile_inputs_;
  const int64_t rows_per_tile_;  // of a panel
  StreamAhead<Tiles> ahead_;
  const int64_t num_groups_;
  Part turned_{0, 0};  // which groups inputs_ has
  InputScales<Weights::kMiddle, kMostTurned> inputs_;
  alignas(64) unsigned char sums_[kGroupsAtOnce * kRowTiles * kPanels * kTileBytes];
  alignas(64) unsigned char unpacked_[Weights::kPacked ? kPanels * kTilesAtOnce * kTileBytes : 64];
};

}  // namespace
}  // namespace tidemill

// bf16 products with VDPBF16PS: per output, the products of a pair of inputs are added to one
// accumulator, pairs in order.
#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/inner.h"
#include "kernels/host/product_tiles.h"
#include "kernels/host/unroll.h"

namespace tidemill::avx512bf16 {
namespace {

// Asks: at each line of a tile's panels, for others.
template <int kRows, int kPanels, typename Asks>
void tile_bf16(const ProductTile& tile) {
  __m512 sums[kRows][kPanels];
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    TIDEMILL_UNROLL
    for (int p = 0; p < kPanels; ++p) sums[r][p] = _mm512_setzero_ps();
  }
  const Asks asks(tile);
  for (int64_t step = 0; step < tile.num_steps; ++step) {
    asks.ask(step * 64);
    __m512bh weights[kPanels];
    TIDEMILL_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      const unsigned char* row = tile.panels + p * tile.panel_stride + step * 64;
      weights[p] = (__m512bh)_mm512_loadu_si512(row);
    }
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const auto x = (__m512bh)_mm512_set1_epi32(
          reinterpret_cast<const int32_t*>(tile.in + r * tile.in_stride)[step]);
      TIDEMILL_UNROLL
      for (int p = 0; p < kPanels; ++p) sums[r][p] = _mm512_dpbf16_ps(sums[r][p], x, weights[p]);
    }
  }
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    TIDEMILL_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      _mm512_storeu_ps(tile.sums + (r * kTilePanels + p) * 16, sums[r][p]);
    }
  }
}

template <int kRows, int kPanels>
constexpr Tile kStream = tile_bf16<kRows, kPanels, LinesAhead<kPanels>>;
constexpr Tile kStreams[kTileRows][3] = {
    {kStream<1, 1>, kStream<1, 2>, kStream<1, 4>}, {kStream<2, 1>, kStream<2, 2>, kStream<2, 4>},
    {kStream<3, 1>, kStream<3, 2>, kStream<3, 4>}, {kStream<4, 1>, kStream<4, 2>, kStream<4, 4>},
    {kStream<5, 1>, kStream<5, 2>, kStream<5, 4>}, {kStream<6, 1>, kStream<6, 2>, kStream<6, 4>},
};

struct AsksInBlock {
  explicit AsksInBlock(const ProductTile& tile) : own(tile), others(tile) {}
  [[gnu::always_inline]] void ask(int64_t offset) const {
    own.ask(offset);
    others.ask(offset);
  }

  PanelsAhead own;
  OthersAhead<1> others;
};
template <int kRows>
constexpr Tile kBlock = tile_bf16<kRows, kBlockPanels, AsksInBlock>;
constexpr Tile kBlocks[kTileRows] = {kBlock<1>, kBlock<2>, kBlock<3>,
                                     kBlock<4>, kBlock<5>, kBlock<6>};

// Fewer take no longer than memory takes to bring their lines.
constexpr int64_t kLeastRowsForOthers = 24;

}  // namespace

void product_bf16(const ProductTile& tile) {
  if (tile.num_rows <= kTileRows) return run_streams(tile, kStreams);
  ProductTile part = copy_of(tile);
  if (part.num_rows < kLeastRowsForOthers) part.wanted = nullptr;
  run_blocks(part, kStreams, kBlocks);
}

}  // namespace tidemill::avx512bf16

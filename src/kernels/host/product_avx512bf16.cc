// bf16 products with VDPBF16PS: per output, the products of a pair of inputs are added to one
// accumulator, pairs in order.
#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/inner.h"
#include "kernels/host/product_tiles.h"
#include "kernels/host/unroll.h"

namespace tidemill::avx512bf16 {
namespace {

template <int kRows, int kPanels>
void tile_bf16(const ProductTile& tile) {
  __m512 sums[kRows][kPanels];
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    TIDEMILL_UNROLL
    for (int p = 0; p < kPanels; ++p) sums[r][p] = _mm512_setzero_ps();
  }
  const unsigned char* ahead = panels_ahead(tile);
  for (int64_t step = 0; step < tile.num_steps; ++step) {
    if constexpr (kRows * kPanels >= 12) fetch_panels(ahead, tile.panel_stride, step);
    __m512bh weights[kPanels];
    TIDEMILL_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      const unsigned char* row = tile.panels + p * tile.panel_stride + step * 64;
      fetch_ahead<kPanels>(row);
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

constexpr Tile kTiles[kTileRows][4] = {
    {tile_bf16<1, 1>, tile_bf16<1, 2>, tile_bf16<1, 4>, tile_bf16<1, 8>},
    {tile_bf16<2, 1>, tile_bf16<2, 2>, tile_bf16<2, 4>, tile_bf16<2, 8>},
    {tile_bf16<3, 1>, tile_bf16<3, 2>, tile_bf16<3, 4>, nullptr},
    {tile_bf16<4, 1>, tile_bf16<4, 2>, tile_bf16<4, 4>, nullptr},
    {tile_bf16<5, 1>, tile_bf16<5, 2>, tile_bf16<5, 4>, nullptr},
    {tile_bf16<6, 1>, tile_bf16<6, 2>, tile_bf16<6, 4>, nullptr},
};

}  // namespace

void product_bf16(const ProductTile& tile) { run_tiles(tile, kTiles); }

}  // namespace tidemill::avx512bf16

// Products with AVX-512: one register holds a panel's row. Several panels at once are several
// streams through memory; several rows share each row of a panel.
#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/inner.h"
#include "kernels/host/product_tiles.h"
#include "kernels/host/unroll.h"

namespace tidemill::avx512 {
namespace {

template <int kRows, int kPanels>
void tile_f32(const ProductTile& tile) {
  __m512 sums[kRows][kPanels];
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    TIDEMILL_UNROLL
    for (int p = 0; p < kPanels; ++p) sums[r][p] = _mm512_setzero_ps();
  }
  for (int64_t step = 0; step < tile.num_steps; ++step) {
    __m512 weights[kPanels];
    TIDEMILL_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      const unsigned char* row = tile.panels + p * tile.panel_stride + step * 64;
      fetch_ahead<kPanels>(row);
      weights[p] = _mm512_loadu_ps(row);
    }
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const __m512 x =
          _mm512_set1_ps(reinterpret_cast<const float*>(tile.in + r * tile.in_stride)[step]);
      TIDEMILL_UNROLL
      for (int p = 0; p < kPanels; ++p) sums[r][p] = _mm512_fmadd_ps(x, weights[p], sums[r][p]);
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

// bf16 without its own instructions: the two halves of each word become floats by a shift and a
// mask; even inputs are added before odd ones.
template <int kRows, int kPanels>
void tile_bf16(const ProductTile& tile) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  __m512 sums[kRows][kPanels];
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    TIDEMILL_UNROLL
    for (int p = 0; p < kPanels; ++p) sums[r][p] = _mm512_setzero_ps();
  }
  for (int64_t step = 0; step < tile.num_steps; ++step) {
    __m512 even[kPanels];
    __m512 odd[kPanels];
    TIDEMILL_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      const unsigned char* row = tile.panels + p * tile.panel_stride + step * 64;
      fetch_ahead<kPanels>(row);
      const __m512i words = _mm512_loadu_si512(row);
      even[p] = _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
      odd[p] = _mm512_castsi512_ps(_mm512_and_si512(words, upper));
    }
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const __m512i pair =
          _mm512_set1_epi32(reinterpret_cast<const int32_t*>(tile.in + r * tile.in_stride)[step]);
      const __m512 first = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
      const __m512 second = _mm512_castsi512_ps(_mm512_and_si512(pair, upper));
      TIDEMILL_UNROLL
      for (int p = 0; p < kPanels; ++p) {
        sums[r][p] = _mm512_fmadd_ps(first, even[p], sums[r][p]);
        sums[r][p] = _mm512_fmadd_ps(second, odd[p], sums[r][p]);
      }
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

constexpr Tile kF32[kTileRows][4] = {
    {tile_f32<1, 1>, tile_f32<1, 2>, tile_f32<1, 4>, tile_f32<1, 8>},
    {tile_f32<2, 1>, tile_f32<2, 2>, tile_f32<2, 4>, tile_f32<2, 8>},
    {tile_f32<3, 1>, tile_f32<3, 2>, tile_f32<3, 4>, nullptr},
    {tile_f32<4, 1>, tile_f32<4, 2>, tile_f32<4, 4>, nullptr},
    {tile_f32<5, 1>, tile_f32<5, 2>, tile_f32<5, 4>, nullptr},
    {tile_f32<6, 1>, tile_f32<6, 2>, tile_f32<6, 4>, nullptr},
};

constexpr Tile kBf16[kTileRows][4] = {
    {tile_bf16<1, 1>, tile_bf16<1, 2>, tile_bf16<1, 4>, tile_bf16<1, 8>},
    {tile_bf16<2, 1>, tile_bf16<2, 2>, tile_bf16<2, 4>, nullptr},
    {tile_bf16<3, 1>, tile_bf16<3, 2>, tile_bf16<3, 4>, nullptr},
    {tile_bf16<4, 1>, tile_bf16<4, 2>, tile_bf16<4, 4>, nullptr},
    {tile_bf16<5, 1>, tile_bf16<5, 2>, nullptr, nullptr},
    {tile_bf16<6, 1>, tile_bf16<6, 2>, nullptr, nullptr},
};

}  // namespace

void product_f32(const ProductTile& tile) { run_tiles(tile, kF32); }
void product_bf16(const ProductTile& tile) { run_tiles(tile, kBf16); }

}  // namespace tidemill::avx512

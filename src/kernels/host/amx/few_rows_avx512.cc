// bf16 products of few rows for the variant "amx", in the order in which a tile adds: so a row has
// the same bits here as among many rows (products.h).
#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/amx/products.h"
#include "kernels/host/inner.h"
#include "kernels/host/product_tiles.h"
#include "kernels/host/unroll.h"

namespace tidemill::amx {
namespace {

constexpr int64_t kStepsPerBlock = 16;  // of two inputs each

template <int kRows, int kPanels>
void clear(__m512 (&sums)[kRows][kPanels]) {
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    TIDEMILL_UNROLL
    for (int p = 0; p < kPanels; ++p) sums[r][p] = _mm512_setzero_ps();
  }
}

template <int kRows, int kPanels>
void tile_bf16(const ProductTile& tile) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  __m512 sums[kRows][kPanels];
  clear(sums);
  for (int64_t first = 0; first < tile.num_steps; first += kStepsPerBlock) {
    __m512 even[kRows][kPanels];
    __m512 odd[kRows][kPanels];
    clear(even);
    clear(odd);
    for (int64_t step = first; step < first + kStepsPerBlock; ++step) {
      __m512 even_inputs[kRows];
      __m512 odd_inputs[kRows];
      TIDEMILL_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const __m512i pair =
            _mm512_set1_epi32(reinterpret_cast<const int32_t*>(tile.in + r * tile.in_stride)[step]);
        even_inputs[r] = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
        odd_inputs[r] = _mm512_castsi512_ps(_mm512_and_si512(pair, upper));
      }
      TIDEMILL_UNROLL
      for (int p = 0; p < kPanels; ++p) {
        const unsigned char* row = tile.panels + p * tile.panel_stride + step * 64;
        fetch_ahead<kPanels>(row);
        const __m512i words = _mm512_loadu_si512(row);
        const __m512 even_weights = _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
        const __m512 odd_weights = _mm512_castsi512_ps(_mm512_and_si512(words, upper));
        TIDEMILL_UNROLL
        for (int r = 0; r < kRows; ++r) {
          even[r][p] = _mm512_fmadd_ps(even_inputs[r], even_weights, even[r][p]);
          odd[r][p] = _mm512_fmadd_ps(odd_inputs[r], odd_weights, odd[r][p]);
        }
      }
    }
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      TIDEMILL_UNROLL
      for (int p = 0; p < kPanels; ++p) {
        sums[r][p] = _mm512_add_ps(sums[r][p], _mm512_add_ps(even[r][p], odd[r][p]));
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

constexpr Tile kTiles[kFewRows][4] = {
    {tile_bf16<1, 1>, tile_bf16<1, 2>, tile_bf16<1, 4>, tile_bf16<1, 8>},
    {tile_bf16<2, 1>, tile_bf16<2, 2>, tile_bf16<2, 4>, nullptr},
    {tile_bf16<3, 1>, tile_bf16<3, 2>, nullptr, nullptr},
    {tile_bf16<4, 1>, tile_bf16<4, 2>, nullptr, nullptr},
};

}  // namespace

void few_rows_bf16(const ProductTile& tile) { run_tiles(tile, kTiles); }

}  // namespace tidemill::amx

// Products with AVX2: two registers hold a panel's row, and sixteen registers are all there are, so
// tiles are small.
#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/inner.h"
#include "kernels/host/product_tiles.h"
#include "kernels/host/unroll.h"

namespace tidemill::avx2 {
namespace {

template <int kRows, int kPanels>
void tile_f32(const ProductTile& tile) {
  __m256 sums[kRows][2 * kPanels];
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    TIDEMILL_UNROLL
    for (int h = 0; h < 2 * kPanels; ++h) sums[r][h] = _mm256_setzero_ps();
  }
  for (int64_t step = 0; step < tile.num_steps; ++step) {
    __m256 x[kRows];
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      x[r] =
          _mm256_broadcast_ss(reinterpret_cast<const float*>(tile.in + r * tile.in_stride) + step);
    }
    // One half of a panel's row at a time: 3 rows of 2 panels fill all sixteen registers.
    TIDEMILL_UNROLL
    for (int h = 0; h < 2 * kPanels; ++h) {
      const unsigned char* half = tile.panels + h / 2 * tile.panel_stride + step * 64 + h % 2 * 32;
      if (h % 2 == 0) fetch_ahead<kPanels>(half);
      const __m256 weights = _mm256_loadu_ps(reinterpret_cast<const float*>(half));
      TIDEMILL_UNROLL
      for (int r = 0; r < kRows; ++r) sums[r][h] = _mm256_fmadd_ps(x[r], weights, sums[r][h]);
    }
  }
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    TIDEMILL_UNROLL
    for (int h = 0; h < 2 * kPanels; ++h) {
      _mm256_storeu_ps(tile.sums + r * kRowSums + h * 8, sums[r][h]);
    }
  }
}

// The two halves of each word become floats by a shift and a mask; even inputs are added before
// odd ones.
template <int kRows, int kPanels>
void tile_bf16(const ProductTile& tile) {
  const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  __m256 sums[kRows][2 * kPanels];
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    TIDEMILL_UNROLL
    for (int h = 0; h < 2 * kPanels; ++h) sums[r][h] = _mm256_setzero_ps();
  }
  for (int64_t step = 0; step < tile.num_steps; ++step) {
    __m256 first[kRows];
    __m256 second[kRows];
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const __m256i pair =
          _mm256_set1_epi32(reinterpret_cast<const int32_t*>(tile.in + r * tile.in_stride)[step]);
      first[r] = _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16));
      second[r] = _mm256_castsi256_ps(_mm256_and_si256(pair, upper));
    }
    TIDEMILL_UNROLL
    for (int h = 0; h < 2 * kPanels; ++h) {
      const unsigned char* half = tile.panels + h / 2 * tile.panel_stride + step * 64 + h % 2 * 32;
      if (h % 2 == 0) {
        fetch_ahead<kPanels>(half);
      }
      const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(half));
      const __m256 even = _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
      const __m256 odd = _mm256_castsi256_ps(_mm256_and_si256(words, upper));
      TIDEMILL_UNROLL
      for (int r = 0; r < kRows; ++r) {
        sums[r][h] = _mm256_fmadd_ps(first[r], even, sums[r][h]);
        sums[r][h] = _mm256_fmadd_ps(second[r], odd, sums[r][h]);
      }
    }
  }
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    TIDEMILL_UNROLL
    for (int h = 0; h < 2 * kPanels; ++h) {
      _mm256_storeu_ps(tile.sums + r * kRowSums + h * 8, sums[r][h]);
    }
  }
}

constexpr Tile kF32[4][3] = {
    {tile_f32<1, 1>, tile_f32<1, 2>, tile_f32<1, 4>},
    {tile_f32<2, 1>, tile_f32<2, 2>, nullptr},
    {tile_f32<3, 1>, tile_f32<3, 2>, nullptr},
    {tile_f32<4, 1>, nullptr, nullptr},
};

constexpr Tile kBf16[4][3] = {
    {tile_bf16<1, 1>, tile_bf16<1, 2>, tile_bf16<1, 4>},
    {tile_bf16<2, 1>, tile_bf16<2, 2>, nullptr},
    {tile_bf16<3, 1>, nullptr, nullptr},
    {nullptr, nullptr, nullptr},
};

// Four rows at the end are one tile, or two of two, rather than three and one.
int64_t rows_of_next_tile(int64_t left, bool four_fit) {
  if (left == 4) return four_fit ? 4 : 2;
  return left < 3 ? left : 3;
}

void run(const ProductTile& whole, const Tile (&tiles)[4][3]) {
  for (int64_t r = 0; r < whole.num_rows;) {
    ProductTile part = whole;
    part.in += r * whole.in_stride;
    part.sums += r * kRowSums;
    part.num_rows = rows_of_next_tile(whole.num_rows - r, tiles[3][0] != nullptr);
    run_tiles(part, tiles);
    r += part.num_rows;
  }
}

}  // namespace

void product_f32(const ProductTile& tile) { run(tile, kF32); }
void product_bf16(const ProductTile& tile) { run(tile, kBf16); }

}  // namespace tidemill::avx2

// Products with AVX2: two registers hold a panel's row, and sixteen registers are all there are, so
// tiles are small.
#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/bf16_pairs_avx2.h"
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
  const __m256i upper = _mm256_set1_epi32(static_cast<int>(kUpperHalf));
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

// Of several rows a part of K at a time becomes floats before the products, and a line of weights
// is widened for six of them at once.
constexpr int64_t kPartInputs = kPairRowFloats;
constexpr int64_t kPartSteps = kPartInputs / 2;
static_assert(kPartSteps % 2 == 0, "two lines at a time");
constexpr int kPartRows = 6;

struct PartOfK {
  const float* x;              // kPartInputs from row to row
  const unsigned char* lines;  // of one panel
  // What is read behind them: asked for at each step, so many bytes on each time.
  const unsigned char* asked;
  int64_t ask_stride;
  int64_t num_steps;  // a multiple of 16, as all of K are (padded_k)
  float* sums;
  bool is_first;
};

// One panel. Even inputs are added before odd ones, as above.
template <int kRows>
void tile_widened(const PartOfK& part) {
  const __m256i upper = _mm256_set1_epi32(static_cast<int>(kUpperHalf));
  __m256 sums[kRows][2];
  TIDEMILL_UNROLL_16
  for (int i = 0; i < kRows * 2; ++i) {
    const float* before = part.sums + i / 2 * kRowSums + i % 2 * 8;
    sums[i / 2][i % 2] = part.is_first ? _mm256_setzero_ps() : _mm256_loadu_ps(before);
  }
  const float* x = part.x;
  const unsigned char* asked = part.asked;
  const unsigned char* lines = part.lines;
  const int64_t ask_stride = part.ask_stride;
  const unsigned char* const end = lines + part.num_steps * 64;
  for (; lines != end; lines += 128, x += 4) {
    TIDEMILL_UNROLL
    for (int i = 0; i < 2; ++i, asked += ask_stride) {
      _mm_prefetch(reinterpret_cast<const char*>(asked), _MM_HINT_T0);
    }
    add_pairs_of_two_lines(lines, x, upper, sums);
  }
  TIDEMILL_UNROLL_16
  for (int i = 0; i < kRows * 2; ++i) {
    _mm256_storeu_ps(part.sums + i / 2 * kRowSums + i % 2 * 8, sums[i / 2][i % 2]);
  }
}

// Tiles of like size have three rows at least: more than two rows come here.
constexpr int kLeastPartRows = 3;
constexpr void (*kWidened[])(const PartOfK&) = {tile_widened<3>, tile_widened<4>, tile_widened<5>,
                                                tile_widened<kPartRows>};

void widen(const unsigned char* pairs, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += 4) {
    const __m128i eight = _mm_loadu_si128(reinterpret_cast<const __m128i*>(pairs + i * 4));
    const __m256i bits = _mm256_slli_epi32(_mm256_cvtepu16_epi32(eight), 16);
    _mm256_store_ps(out + i * 2, _mm256_castsi256_ps(bits));
  }
}

void product_widened(const ProductTile& tile) {
  alignas(64) float x[kAvx2RowsBf16][kPartInputs];
  for (int64_t first = 0; first < tile.num_steps; first += kPartSteps) {
    const int64_t left = tile.num_steps - first;
    const int64_t steps = left < kPartSteps ? left : kPartSteps;
    for (int64_t r = 0; r < tile.num_rows; ++r) {
      widen(tile.in + r * tile.in_stride + first * 4, steps, x[r]);
    }
    for (int64_t p = 0; p < tile.num_panels; ++p) {
      const unsigned char* lines = tile.panels + p * tile.panel_stride + first * 64;
      const unsigned char* asked =
          p + 1 < tile.num_panels ? lines + tile.panel_stride : tile.panels + (first + steps) * 64;
      int64_t tiles = (tile.num_rows + kPartRows - 1) / kPartRows;
      // Spread over all tiles, several wishes for a line: one for each in the first tile is more
      // than a core waits for at a time.
      const int64_t ask_stride = (64 + tiles - 1) / tiles;
      for (int64_t row = 0; row < tile.num_rows; --tiles) {
        const int64_t rows = (tile.num_rows - row + tiles - 1) / tiles;
        kWidened[rows - kLeastPartRows]({x[row], lines, asked, ask_stride, steps,
                                         tile.sums + row * kRowSums + sums_of_panel(tile, p),
                                         first == 0});
        row += rows;
        asked += steps * ask_stride;
      }
    }
  }
}

constexpr Tile kF32[4][3] = {
    {tile_f32<1, 1>, tile_f32<1, 2>, tile_f32<1, 4>},
    {tile_f32<2, 1>, tile_f32<2, 2>, nullptr},
    {tile_f32<3, 1>, tile_f32<3, 2>, nullptr},
    {tile_f32<4, 1>, nullptr, nullptr},
};

// Few rows wait for memory, not for what widens them.
constexpr int kBf16StreamingRows = 2;
constexpr Tile kBf16[kBf16StreamingRows][3] = {
    {tile_bf16<1, 1>, tile_bf16<1, 2>, tile_bf16<1, 4>},
    {tile_bf16<2, 1>, tile_bf16<2, 2>, nullptr},
};

}  // namespace

void product_f32(const ProductTile& whole) {
  for (int64_t r = 0; r < whole.num_rows;) {
    ProductTile part = whole;
    part.in += r * whole.in_stride;
    part.sums += r * kRowSums;
    const int64_t left = whole.num_rows - r;
    part.num_rows = left < 3 || left == 4 ? left : 3;  // four are one tile, not three and one
    run_tiles(part, kF32);
    r += part.num_rows;
  }
}

void product_bf16(const ProductTile& tile) {
  if (tile.num_rows > kBf16StreamingRows) return product_widened(tile);
  by_tile_panels(tile, [](const ProductTile& group) { run_tiles(group, kBf16); });
}

}  // namespace tidemill::avx2

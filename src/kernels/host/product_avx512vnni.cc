// Integer products with VPDPBUSD: four inputs of a channel at a time, unsigned weights against
// signed activations, summed exactly.
#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/inner.h"
#include "kernels/host/product_groups.h"
#include "kernels/host/product_tiles.h"
#include "kernels/host/unroll.h"

namespace tidemill::avx512vnni {
namespace {

struct Int8 {
  static constexpr int64_t kInputsPerRow = 4;
  static constexpr int32_t kMiddle = 128;
  static constexpr int kSlices = 1;
  static __m512i slice(__m512i row, int) { return row; }
};

// Low nibbles are the bytes of four inputs, high nibbles those of the next four.
struct Int4 {
  static constexpr int64_t kInputsPerRow = 8;
  static constexpr int32_t kMiddle = 8;
  static constexpr int kSlices = 2;
  static __m512i slice(__m512i row, int index) {
    const __m512i nibbles = index == 0 ? row : _mm512_srli_epi16(row, 4);
    return _mm512_and_si512(nibbles, _mm512_set1_epi8(15));
  }
};

// Sums of one group, and what they become.
template <typename Numbers, int kRows, int kPanels>
class Group {
 public:
  Group(const ProductTile& tile, const GroupWalk& at) : tile_(tile), at_(at) {}

  void add(const unsigned char* ahead) {
    start();
    const unsigned char* panels = tile_.panels + at_.rows;
    const unsigned char* x = tile_.in + at_.index * tile_.format.group;
    for (int64_t step = 0; step < at_.num_rows; ++step) {
      if constexpr (kRows * kPanels >= 12) {
        fetch_panels(ahead + at_.rows, tile_.panel_stride, step);
      }
      TIDEMILL_UNROLL
      for (int s = 0; s < Numbers::kSlices; ++s) {
        __m512i weights[kPanels];
        TIDEMILL_UNROLL
        for (int p = 0; p < kPanels; ++p) {
          const unsigned char* row = panels + p * tile_.panel_stride + step * 64;
          if (s == 0) fetch_ahead<kPanels>(row);
          weights[p] = Numbers::slice(_mm512_loadu_si512(row), s);
        }
        TIDEMILL_UNROLL
        for (int r = 0; r < kRows; ++r) {
          const __m512i inputs = _mm512_set1_epi32(reinterpret_cast<const int32_t*>(
              x + r * tile_.in_stride)[step * Numbers::kSlices + s]);
          TIDEMILL_UNROLL
          for (int p = 0; p < kPanels; ++p) {
            sums_[r][p] = _mm512_dpbusd_epi32(sums_[r][p], weights[p], inputs);
          }
        }
      }
    }
    finish();
  }

 private:
  static float scale_at(const unsigned char* of_input) {
    return *reinterpret_cast<const float*>(of_input);
  }
  static int32_t sum_at(const unsigned char* of_input) {
    return *reinterpret_cast<const int32_t*>(of_input + 4);
  }

  void start() {
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int32_t middle = tile_.format.offsets == Offsets::kNone
                                 ? -Numbers::kMiddle * sum_at(scale_of_input(tile_, r, at_.index))
                                 : 0;
      TIDEMILL_UNROLL
      for (int p = 0; p < kPanels; ++p) sums_[r][p] = _mm512_set1_epi32(middle);
    }
  }

  // The order of these floats is part of the format's meaning (inner.h).
  void finish() {
    __m512 scales[kPanels];
    TIDEMILL_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      const unsigned char* row = tile_.panels + p * tile_.panel_stride + at_.scales;
      scales[p] = tile_.format.group == 0 ? _mm512_loadu_ps(row) : halves_at(row);
    }
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const __m512 of_input = _mm512_set1_ps(scale_at(scale_of_input(tile_, r, at_.index)));
      TIDEMILL_UNROLL
      for (int p = 0; p < kPanels; ++p) {
        float* total = tile_.sums + (r * kTilePanels + p) * 16;
        const __m512 sum = _mm512_mul_ps(_mm512_cvtepi32_ps(sums_[r][p]), of_input);
        const __m512 before = at_.index == 0 ? _mm512_setzero_ps() : _mm512_loadu_ps(total);
        _mm512_storeu_ps(total, _mm512_fmadd_ps(sum, scales[p], before));
      }
    }
    if (tile_.format.offsets != Offsets::kNone) add_offsets(scales);
  }

  void add_offsets(const __m512 (&scales)[kPanels]) {
    TIDEMILL_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      const unsigned char* row = tile_.panels + p * tile_.panel_stride + at_.scales + 32;
      const __m512 offsets = tile_.format.offsets == Offsets::kOffset
                                 ? halves_at(row)
                                 : minus_scale_times_zero(scales[p], row);
      TIDEMILL_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const unsigned char* of_input = scale_of_input(tile_, r, at_.index);
        const float sum = scale_at(of_input) * static_cast<float>(sum_at(of_input));
        float* total = tile_.sums + (r * kTilePanels + p) * 16;
        _mm512_storeu_ps(total,
                         _mm512_fmadd_ps(offsets, _mm512_set1_ps(sum), _mm512_loadu_ps(total)));
      }
    }
  }

  static __m512 halves_at(const unsigned char* data) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(data)));
  }
  static __m512 minus_scale_times_zero(__m512 scale, const unsigned char* zeros) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(zeros));
    const __m512 zero = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
    return _mm512_xor_ps(_mm512_mul_ps(scale, zero), _mm512_set1_ps(-0.0f));
  }

  const ProductTile& tile_;
  const GroupWalk& at_;
  __m512i sums_[kRows][kPanels];
};

template <typename Numbers, int kRows, int kPanels>
void tile_of(const ProductTile& tile) {
  const unsigned char* ahead = panels_ahead(tile);
  for (GroupWalk group(tile, Numbers::kInputsPerRow); group.next();) {
    Group<Numbers, kRows, kPanels>(tile, group).add(ahead);
  }
}

template <typename Numbers>
constexpr Tile kTiles[kTileRows][4] = {
    {tile_of<Numbers, 1, 1>, tile_of<Numbers, 1, 2>, tile_of<Numbers, 1, 4>,
     tile_of<Numbers, 1, 8>},
    {tile_of<Numbers, 2, 1>, tile_of<Numbers, 2, 2>, tile_of<Numbers, 2, 4>,
     tile_of<Numbers, 2, 8>},
    {tile_of<Numbers, 3, 1>, tile_of<Numbers, 3, 2>, tile_of<Numbers, 3, 4>, nullptr},
    {tile_of<Numbers, 4, 1>, tile_of<Numbers, 4, 2>, tile_of<Numbers, 4, 4>, nullptr},
    {tile_of<Numbers, 5, 1>, tile_of<Numbers, 5, 2>, tile_of<Numbers, 5, 4>, nullptr},
    {tile_of<Numbers, 6, 1>, tile_of<Numbers, 6, 2>, tile_of<Numbers, 6, 4>, nullptr},
};

}  // namespace

void product_int8(const ProductTile& tile) { run_tiles(tile, kTiles<Int8>); }
void product_int4(const ProductTile& tile) { run_tiles(tile, kTiles<Int4>); }

}  // namespace tidemill::avx512vnni

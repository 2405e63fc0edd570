// Integer products with AVX2: half a panel's row in a register. int8 with more rows than wait for
// memory takes weights and inputs as words instead of weights as two planes: a multiplication and
// an addition of VPMADDWD are half the products of VPMADDUBSW, but bytes are split in half the
// steps, and sums of 32 bits have no end behind 32 inputs.
#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/inner.h"
#include "kernels/host/product_groups.h"
#include "kernels/host/product_maddubs.h"
#include "kernels/host/product_tiles.h"
#include "kernels/host/unroll.h"

namespace tidemill::avx2 {
namespace {

struct Vector {
  using I = __m256i;
  using F = __m256;
  static constexpr int64_t kChannels = 8;
  static constexpr int kWords = 12;  // of 16-bit sums, product_maddubs.h

  static I set1(int32_t value) { return _mm256_set1_epi32(value); }
  static I load(const unsigned char* data) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data));
  }
  static I low_nibbles(I v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
  static I shift_words_right(I v) { return _mm256_srli_epi16(v, 4); }
  static I add(I a, I b) { return _mm256_add_epi32(a, b); }
  static I subtract(I a, I b) { return _mm256_sub_epi32(a, b); }
  static I add_pairs(I words, int16_t factor) {
    return _mm256_madd_epi16(words, _mm256_set1_epi16(factor));
  }

  static F zero() { return _mm256_setzero_ps(); }
  static F set1_float(float value) { return _mm256_set1_ps(value); }
  static F floats_at(const void* data) { return _mm256_loadu_ps(static_cast<const float*>(data)); }
  static F halves_at(const unsigned char* data) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(data)));
  }
  static I widened_bytes(const unsigned char* data) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(data)));
  }
  static I multiply(I a, I b) { return _mm256_mullo_epi32(a, b); }
  static F scaled(I sums, F scale) { return _mm256_mul_ps(_mm256_cvtepi32_ps(sums), scale); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static void store(float* target, F value) { _mm256_storeu_ps(target, value); }
};

// A part of K at a time is widened; what is summed of a group that goes on stays in memory.
constexpr int64_t kPartInputs = 384;
constexpr int kWordRows = 6;

// Lines of a panel up to the end of a group or of a part of K.
struct Run {
  int64_t rows;  // bytes from the panel's start, as the next
  int64_t scales;
  int64_t num_lines;
  int64_t group;
  bool begins;  // the group
  bool ends;
};

class Runs {
 public:
  explicit Runs(const ProductTile& tile) : group_(tile, Int8Planes::kInputsPerRow) {
    group_.next();
  }

  Run next(int64_t most_lines) {
    const int64_t left = group_.num_rows - done_;
    const bool ends = left <= most_lines;
    const Run run = {.rows = group_.rows + done_ * 64,
                     .scales = group_.scales,
                     .num_lines = ends ? left : most_lines,
                     .group = group_.index,
                     .begins = done_ == 0,
                     .ends = ends};
    done_ = ends ? 0 : done_ + most_lines;
    if (ends) group_.next();
    return run;
  }

 private:
  GroupWalk group_;
  int64_t done_ = 0;  // lines of it
};

struct WordTile {
  const ProductTile& whole;    // from this tile's first row on
  const int16_t* x;            // kPartInputs from row to row
  const unsigned char* panel;  // its start
  const unsigned char* next;   // lines that are read behind this part's: wanted meanwhile
  Runs runs;
  int64_t num_lines;
  int32_t* unfinished;  // kRowSums from row to row, as sums
  float* sums;
};

alignas(32) constexpr uint16_t kLowBytes[16] = {255, 255, 255, 255, 255, 255, 255, 255,
                                                255, 255, 255, 255, 255, 255, 255, 255};

// Half of a line's numbers, the even or the odd ones of each four. All sixteen registers are in
// use, so that the mask stays in memory: not intrinsics, which would have it in a register and a
// sum in memory.
template <int kRows>
[[gnu::always_inline]] inline void add_words(const unsigned char* line, bool odd, const int16_t* x,
                                             __m256i (&sums)[kRows][2]) {
  __m256i low = Vector::load(line);
  __m256i high = Vector::load(line + 32);
  if (odd) {
    low = _mm256_srli_epi16(low, 8);
    high = _mm256_srli_epi16(high, 8);
  } else {
    __asm__("vpand %1, %0, %0" : "+x"(low) : "m"(kLowBytes));
    __asm__("vpand %1, %0, %0" : "+x"(high) : "m"(kLowBytes));
  }
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const auto* pair = reinterpret_cast<const int32_t*>(x + r * kPartInputs + (odd ? 2 : 0));
    __m256i inputs;
    __m256i products;
    __asm__(
        "vpbroadcastd %4, %2\n\t"
        "vpmaddwd %5, %2, %3\n\t"
        "vpmaddwd %6, %2, %2\n\t"
        "vpaddd %3, %0, %0\n\t"
        "vpaddd %2, %1, %1"
        : "+x"(sums[r][0]), "+x"(sums[r][1]), "=&x"(inputs), "=&x"(products)
        : "m"(*pair), "x"(low), "x"(high));
  }
}

template <Offsets kOffsets, int kRows>
void tile_of_words(const WordTile& tile) {
  Runs runs = tile.runs;
  const int16_t* x = tile.x;
  const unsigned char* next = tile.next;
  for (int64_t left = tile.num_lines; left > 0;) {
    const Run run = runs.next(left);
    left -= run.num_lines;
    const auto unfinished = [&](int i) {
      return reinterpret_cast<__m256i*>(tile.unfinished + i / 2 * kRowSums + i % 2 * 8);
    };
    __m256i sums[kRows][2];
    TIDEMILL_UNROLL_16
    for (int i = 0; i < kRows * 2; ++i) {
      sums[i / 2][i % 2] = run.begins ? _mm256_setzero_si256() : _mm256_loadu_si256(unfinished(i));
    }
    const unsigned char* line = tile.panel + run.rows;
#pragma GCC unroll 1
    for (int64_t i = 0; i < run.num_lines; ++i, line += 64, next += 64, x += 4) {
      _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T0);
      add_words<kRows>(line, false, x, sums);
      add_words<kRows>(line, true, x, sums);
    }
    if (run.ends) {
      add_group<Vector, Int8Planes, kOffsets>(tile.whole, run.group, tile.panel + run.scales, 0,
                                              sums, tile.sums);
    } else {
      TIDEMILL_UNROLL_16
      for (int i = 0; i < kRows * 2; ++i) _mm256_storeu_si256(unfinished(i), sums[i / 2][i % 2]);
    }
  }
}

// Of each four numbers the even ones, then the odd ones: as a line's.
void widen(const unsigned char* in, int64_t count, int16_t* out) {
  const __m128i order = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
  for (int64_t i = 0; i < count; i += 16) {
    const __m128i numbers = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i));
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + i),
                       _mm256_cvtepi8_epi16(_mm_shuffle_epi8(numbers, order)));
  }
}

// More rows than kMaddubsStreamingRows: tiles of like size have three rows at least.
template <Offsets kOffsets>
void product_of_words(const ProductTile& whole) {
  constexpr int kLeastRows = kMaddubsStreamingRows + 1;
  constexpr void (*kTiles[])(const WordTile&) = {
      tile_of_words<kOffsets, kLeastRows>, tile_of_words<kOffsets, 4>, tile_of_words<kOffsets, 5>,
      tile_of_words<kOffsets, kWordRows>};
  constexpr int64_t kPartLines = kPartInputs / Int8Planes::kInputsPerRow;
  alignas(64) int16_t x[kAvx2RowsIntegers][kPartInputs];
  alignas(64) int32_t unfinished[kAvx2RowsIntegers * kRowSums];
  Runs runs(whole);
  for (int64_t line = 0; line < whole.num_steps; line += kPartLines) {
    const int64_t left = whole.num_steps - line;
    const int64_t num_lines = left < kPartLines ? left : kPartLines;
    for (int64_t r = 0; r < whole.num_rows; ++r) {
      widen(whole.in + r * whole.in_stride + line * 4, num_lines * 4, x[r]);
    }
    Runs behind = runs;
    const int64_t first = Runs(runs).next(num_lines).rows;
    for (int64_t done = 0; done < num_lines;) done += behind.next(num_lines - done).num_lines;
    for (int64_t p = 0; p < whole.num_panels; ++p) {
      const unsigned char* panel = whole.panels + p * whole.panel_stride;
      const unsigned char* next = p + 1 < whole.num_panels ? panel + whole.panel_stride + first
                                                           : whole.panels + first + num_lines * 64;
      int64_t tiles = (whole.num_rows + kWordRows - 1) / kWordRows;
      for (int64_t row = 0; row < whole.num_rows; --tiles) {
        const int64_t rows = (whole.num_rows - row + tiles - 1) / tiles;
        ProductTile part = copy_of(whole);
        part.in += row * whole.in_stride;
        const int64_t at = row * kRowSums + p * 16;
        kTiles[rows - kLeastRows](
            {part, x[row], panel, next, runs, num_lines, unfinished + at, whole.sums + at});
        row += rows;
        next = panel + first;  // asked for already
      }
    }
    runs = behind;
  }
}

}  // namespace

void product_int8(const ProductTile& tile) {
  if (tile.num_rows <= kMaddubsStreamingRows) return maddubs_product<Vector, Int8Planes>(tile);
  switch (tile.format.offsets) {
    case Offsets::kNone:
      return product_of_words<Offsets::kNone>(tile);
    case Offsets::kZero:
      return product_of_words<Offsets::kZero>(tile);
    case Offsets::kOffset:
      return product_of_words<Offsets::kOffset>(tile);
  }
}
void product_int4(const ProductTile& tile) { maddubs_product<Vector, Int4Planes>(tile); }

}  // namespace tidemill::avx2

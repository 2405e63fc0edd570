// Integer products with AVX2: half a panel's row in a register. int8 with more rows than wait for
// memory takes weights and inputs as words instead of weights as two planes: a multiplication and
// an addition of VPMADDWD are half the products of VPMADDUBSW, but bytes are split in two steps
// instead of three, and sums of 32 bits have no end behind 32 inputs.
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
  static I words_at(const unsigned char* data) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(data)));
  }
  static I masked(I v, int32_t mask) { return _mm256_and_si256(v, _mm256_set1_epi32(mask)); }
  static I multiply(I a, I b) { return _mm256_mullo_epi32(a, b); }
  static F scaled(I sums, F scale) { return _mm256_mul_ps(_mm256_cvtepi32_ps(sums), scale); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static void store(float* target, F value) { _mm256_storeu_ps(target, value); }
};

// A slice of K at a time is widened: that of 24 rows (18 KiB) and of a panel (6 KiB) share L1. What
// is summed of a group that goes on behind the slice stays in memory.
constexpr int64_t kSliceInputs = 384;
constexpr int64_t kSliceLines = kSliceInputs / Int8Planes::kInputsPerRow;
constexpr int kWordRows = 6;

// Lines of a panel up to the end of a group or of a slice.
struct Stretch {
  int64_t begin;   // bytes from the panel's start
  int64_t scales;  // of the group: the same
  int64_t num_lines;
  int64_t group;
  bool begins_group;
  bool ends_group;
};

// Where a panel is read, group by group.
class Place {
 public:
  explicit Place(const ProductTile& tile) : group_(tile, Int8Planes::kInputsPerRow) {
    group_.next();
  }

  // Bytes from the panel's start; behind the last group of no meaning.
  int64_t bytes() const { return group_.rows + done_ * 64; }

  // Goes on by most_lines (1 or more) or to the end of the group; there must be lines left.
  Stretch next(int64_t most_lines) {
    const int64_t left = group_.num_rows - done_;
    const bool ends = left <= most_lines;
    const Stretch stretch = {.begin = bytes(),
                             .scales = group_.scales,
                             .num_lines = ends ? left : most_lines,
                             .group = group_.index,
                             .begins_group = done_ == 0,
                             .ends_group = ends};
    done_ = ends ? 0 : done_ + most_lines;
    if (ends) group_.next();
    return stretch;
  }

  void skip(int64_t num_lines) {
    while (num_lines > 0) num_lines -= next(num_lines).num_lines;
  }

 private:
  GroupWalk group_;
  int64_t done_ = 0;  // lines of it
};

// Some rows of a product by the slice of one panel.
struct WordTile {
  const ProductTile& product;
  int64_t first_row;
  int64_t panel;
  Place place;  // where the slice begins
  int64_t num_lines;
  int64_t ahead;        // bytes from a line to what is read behind the slice: wanted meanwhile
  const int16_t* x;     // the rows' slices, kSliceInputs from one to the next
  int32_t* unfinished;  // of the product's first row and panel, laid out as its sums
};

alignas(32) constexpr uint16_t kLowBytes[16] = {255, 255, 255, 255, 255, 255, 255, 255,
                                                255, 255, 255, 255, 255, 255, 255, 255};

// Half of a line's numbers, the even or the odd ones of each four. All sixteen registers are in
// use, so that the mask stays in memory: not intrinsics, which would have it in a register and a
// sum in memory.
template <int kRows>
[[gnu::always_inline]] inline void add_words(const unsigned char* line, bool odd, const int16_t* x,
                                             __m256i (&sums)[kRows][2]) {
  __m256i words[2] = {Vector::load(line), Vector::load(line + 32)};
  TIDEMILL_UNROLL
  for (__m256i& half : words) {
    if (odd) {
      half = _mm256_srli_epi16(half, 8);
    } else {
      __asm__("vpand %1, %0, %0" : "+x"(half) : "m"(kLowBytes));
    }
  }
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const auto* pair = reinterpret_cast<const int32_t*>(x + r * kSliceInputs + (odd ? 2 : 0));
    __m256i inputs;
    __m256i products;
    __asm__(
        "vpbroadcastd %4, %2\n\t"
        "vpmaddwd %5, %2, %3\n\t"
        "vpmaddwd %6, %2, %2\n\t"
        "vpaddd %3, %0, %0\n\t"
        "vpaddd %2, %1, %1"
        : "+x"(sums[r][0]), "+x"(sums[r][1]), "=&x"(inputs), "=&x"(products)
        : "m"(*pair), "x"(words[0]), "x"(words[1]));
  }
}

template <Offsets kOffsets, int kRows>
void tile_of_words(const WordTile& given) {
  ProductTile tile = copy_of(given.product);
  tile.in += given.first_row * tile.in_stride;
  const int64_t first_sum = given.first_row * kRowSums + sums_of_panel(tile, given.panel);
  float* out = tile.sums + first_sum;
  int32_t* unfinished = given.unfinished + first_sum;
  const unsigned char* panel = tile.panels + given.panel * tile.panel_stride;
  const int64_t ahead = given.ahead;
  const int16_t* x = given.x;
  Place place = given.place;
  for (int64_t left = given.num_lines; left > 0;) {
    const Stretch stretch = place.next(left);
    left -= stretch.num_lines;
    const auto unfinished_at = [&](int i) {
      return reinterpret_cast<__m256i*>(unfinished + i / 2 * kRowSums + i % 2 * 8);
    };
    __m256i sums[kRows][2];
    TIDEMILL_UNROLL_16
    for (int i = 0; i < kRows * 2; ++i) {
      sums[i / 2][i % 2] =
          stretch.begins_group ? _mm256_setzero_si256() : _mm256_loadu_si256(unfinished_at(i));
    }
    if (stretch.begins_group && stretch.group == 0) clear_sums<Vector, kRows, 2>(out);
    const unsigned char* line = panel + stretch.begin;
#pragma GCC unroll 1
    for (int64_t i = 0; i < stretch.num_lines; ++i, line += 64, x += 4) {
      _mm_prefetch(reinterpret_cast<const char*>(line + ahead), _MM_HINT_T0);
      add_words<kRows>(line, false, x, sums);
      add_words<kRows>(line, true, x, sums);
    }
    if (stretch.ends_group) {
      const unsigned char* scales = panel + stretch.scales;
      _mm_prefetch(reinterpret_cast<const char*>(scales + ahead), _MM_HINT_T0);
      add_group<Vector, Int8Planes, kOffsets>(tile, stretch.group, scales, 0, sums, out);
    } else {
      TIDEMILL_UNROLL_16
      for (int i = 0; i < kRows * 2; ++i) {
        _mm256_storeu_si256(unfinished_at(i), sums[i / 2][i % 2]);
      }
    }
  }
}

// Of each four numbers the even ones, then the odd ones: as a line's.
void widen_bytes(const unsigned char* in, int64_t count, int16_t* out) {
  const __m128i order = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
  for (int64_t i = 0; i < count; i += 16) {
    const __m128i numbers = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i));
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + i),
                       _mm256_cvtepi8_epi16(_mm_shuffle_epi8(numbers, order)));
  }
}

static_assert(kAvx2RowsBf16 <= kAvx2RowsIntegers, "sums of a call are for the larger number");

// More rows than kMaddubsStreamingRows: tiles of like size have three rows at least.
template <Offsets kOffsets>
void product_of_words(const ProductTile& tile) {
  constexpr int kLeastRows = kMaddubsStreamingRows + 1;
  constexpr void (*kTiles[])(const WordTile&) = {
      tile_of_words<kOffsets, kLeastRows>, tile_of_words<kOffsets, 4>, tile_of_words<kOffsets, 5>,
      tile_of_words<kOffsets, kWordRows>};
  alignas(64) int16_t x[kAvx2RowsIntegers][kSliceInputs];
  alignas(64) int32_t unfinished[kAvx2RowsIntegers * kAvx2Panels * 16];  // as the call's sums
  Place place(tile);
  for (int64_t line = 0; line < tile.num_steps; line += kSliceLines) {
    const int64_t left = tile.num_steps - line;
    const int64_t num_lines = left < kSliceLines ? left : kSliceLines;
    for (int64_t r = 0; r < tile.num_rows; ++r) {
      widen_bytes(tile.in + r * tile.in_stride + line * 4, num_lines * 4, x[r]);
    }
    Place behind = place;
    behind.skip(num_lines);
    const bool is_last = num_lines == left;
    const int64_t slice_bytes = is_last ? 0 : behind.bytes() - place.bytes();
    const int64_t to_next_slice = slice_bytes - (tile.num_panels - 1) * tile.panel_stride;
    for (int64_t p = 0; p < tile.num_panels; ++p) {
      int64_t ahead = p + 1 < tile.num_panels ? tile.panel_stride : to_next_slice;
      int64_t tiles = (tile.num_rows + kWordRows - 1) / kWordRows;
      for (int64_t row = 0; row < tile.num_rows; --tiles) {
        const int64_t rows = (tile.num_rows - row + tiles - 1) / tiles;
        kTiles[rows - kLeastRows]({.product = tile,
                                   .first_row = row,
                                   .panel = p,
                                   .place = place,
                                   .num_lines = num_lines,
                                   .ahead = ahead,
                                   .x = x[row],
                                   .unfinished = unfinished});
        row += rows;
        ahead = 0;  // asked for already
      }
    }
    place = behind;
  }
}

}  // namespace

void product_int8(const ProductTile& tile) {
  if (tile.num_rows <= kMaddubsStreamingRows) {
    return by_tile_panels(tile, maddubs_product<Vector, Int8Planes>);
  }
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

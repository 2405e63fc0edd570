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

// What a tile asks memory for, at each line of its panels' numbers and of their scales (offsets
// within a panel).
template <int kPanels>
struct AsksFarAhead {
  explicit AsksFarAhead(const ProductTile& tile) : lines(tile) {}
  [[gnu::always_inline]] void at_numbers(int64_t offset) const { lines.ask(offset); }
  [[gnu::always_inline]] void at_scales(int64_t offset) const { lines.ask(offset); }

  LinesAhead<kPanels> lines;
};

// Panels in L1 that many rows pass over: the pair behind them.
template <int kPanels>
struct AsksForNextPair {
  explicit AsksForNextPair(const ProductTile& tile)
      : panels(tile.panels), ahead(panels_ahead(tile)), stride(tile.panel_stride) {}
  [[gnu::always_inline]] void at_numbers(int64_t offset) const {
    fetch_panels(ahead + offset, stride, 0);
    TIDEMILL_UNROLL
    for (int p = 0; p < kPanels; ++p) fetch_ahead<kPanels>(panels + p * stride + offset);
  }
  [[gnu::always_inline]] void at_scales(int64_t) const {}

  const unsigned char* panels;
  const unsigned char* ahead;
  int64_t stride;
};

// What does a Xeon good (product_tiles.h).
template <int kPanels, bool kEightToo>
struct AsksNear {
  static constexpr bool kAsks = kPanels < 8 || kEightToo;

  explicit AsksNear(const ProductTile& tile)
      : panels(tile.panels), ahead(tile.ahead), stride(tile.panel_stride) {}
  [[gnu::always_inline]] void at_numbers(int64_t offset) const {
    TIDEMILL_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      fetch_ahead<kPanels, kAsks>(panels + p * stride + offset);
      fetch_beginning<kPanels>(ahead, stride, p, offset);
    }
  }
  [[gnu::always_inline]] void at_scales(int64_t) const {}

  const unsigned char* panels;
  const unsigned char* ahead;
  int64_t stride;
};

struct Int8 {
  static constexpr int64_t kInputsPerRow = 4;
  static constexpr int kMiddleLog = 7;  // of 128, which stands for zero
  static constexpr int kZeroMask = 255;
  static constexpr int kSlices = 1;
  static __m512i slice(__m512i row, int) { return row; }
  template <int kPanels>
  using AsksInPairs = AsksForNextPair<kPanels>;
};

// Low nibbles are the bytes of four inputs, high nibbles those of the next four.
struct Int4 {
  static constexpr int64_t kInputsPerRow = 8;
  static constexpr int kMiddleLog = 3;
  static constexpr int kZeroMask = kInt4ZeroMask;
  static constexpr int kSlices = 2;
  static __m512i slice(__m512i row, int index) {
    const __m512i nibbles = index == 0 ? row : _mm512_srli_epi16(row, 4);
    return _mm512_and_si512(nibbles, _mm512_set1_epi8(15));
  }
  template <int kPanels>
  using AsksInPairs = AsksFarAhead<kPanels>;
};

// Blocks of many rows, of which each line takes a cycle (Zen 4) for each row and slice: the time in
// which memory brings more than the tile's own lines is for others.
template <typename Numbers, int kRows, int kPanels>
struct AsksForOthersToo {
  static constexpr int64_t kCyclesOfLine = 8;
  static constexpr int64_t kLines = kRows * Numbers::kSlices * kPanels / kCyclesOfLine;

  explicit AsksForOthersToo(const ProductTile& tile) : own(tile), others(tile) {}
  [[gnu::always_inline]] void at_numbers(int64_t offset) const {
    own.at_numbers(offset);
    others.ask(offset);
  }
  [[gnu::always_inline]] void at_scales(int64_t offset) const {
    own.at_scales(offset);
    others.ask(offset);
  }

  typename Numbers::template AsksInPairs<kPanels> own;
  OthersAhead<(kLines > kPanels ? kLines - kPanels : 0)> others;
};

// sum[c] += the four products of weights (unsigned) and inputs (signed) in each channel. Not the
// intrinsic: around it GCC 12 copies every sum from register to register and into memory.
void add_products(__m512i& sum, __m512i weights, __m512i inputs) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(inputs));
}

struct Register {
  using I = __m512i;
};
template <int kRows>
using InputRows512 = InputRows<Register, kRows>;

__m512 halves_at(const unsigned char* data) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(data)));
}
// What stands beside the scales in `row` of channels with zero points, and those.
__m512i words_at(const unsigned char* row) {
  return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + 32)));
}
template <typename Numbers>
__m512i zeros_at(const unsigned char* row) {
  return _mm512_and_si512(words_at(row), _mm512_set1_epi32(Numbers::kZeroMask));
}

// What a group's sums begin with: what all weights' middle, or a channel's zero point, takes from
// them, given each row's sum of inputs.
template <typename Numbers, int kRows, int kPanels>
[[gnu::always_inline]] inline void begin_sums(const ProductTile& tile, int64_t scales,
                                              const InputRows512<kRows>& sums_of_inputs,
                                              __m512i (&sums)[kRows][kPanels]) {
  const __m512i nothing = _mm512_setzero_si512();
  if (tile.format.offsets != Offsets::kZero) {
    TIDEMILL_UNROLL_16
    for (int r = 0; r < kRows; ++r) {
      const __m512i before = tile.format.offsets == Offsets::kOffset
                                 ? nothing
                                 : _mm512_slli_epi32(_mm512_sub_epi32(nothing, sums_of_inputs[r]),
                                                     Numbers::kMiddleLog);
      TIDEMILL_UNROLL
      for (int p = 0; p < kPanels; ++p) sums[r][p] = before;
    }
    return;
  }
  __m512i zeros[kPanels];
  TIDEMILL_UNROLL
  for (int p = 0; p < kPanels; ++p) {
    zeros[p] = zeros_at<Numbers>(tile.panels + p * tile.panel_stride + scales);
  }
  TIDEMILL_UNROLL_16
  for (int r = 0; r < kRows; ++r) {
    const __m512i minus_inputs = _mm512_sub_epi32(nothing, sums_of_inputs[r]);
    TIDEMILL_UNROLL
    for (int p = 0; p < kPanels; ++p) sums[r][p] = _mm512_mullo_epi32(minus_inputs, zeros[p]);
  }
}

// The sums are local to the innermost loop over a group: as members of anything they would live in
// memory. The tile is copied since stores of floats could change it anywhere else.
template <typename Numbers, int kRows, int kPanels, typename Asks>
void tile_of(const ProductTile& given) {
  const ProductTile tile = copy_of(given);
  const Asks asks(tile);
  const bool has_offsets = tile.format.offsets == Offsets::kOffset;
  for (GroupWalk group(tile, Numbers::kInputsPerRow); group.next();) {
    __m512i sums[kRows][kPanels];
    InputRows512<kRows> scales_of_inputs(scale_of_input(tile, 0, group.index), tile.in_stride);
    scales_of_inputs.advance(4);
    begin_sums<Numbers>(tile, group.scales, scales_of_inputs, sums);
    const unsigned char* panels = tile.panels + group.rows;
    InputRows512<kRows> x(tile.in + group.index * tile.format.group, tile.in_stride);
    for (int64_t step = 0; step < group.num_rows; ++step) {
      asks.at_numbers(group.rows + step * 64);
      TIDEMILL_UNROLL
      for (int s = 0; s < Numbers::kSlices; ++s) {
        __m512i weights[kPanels];
        TIDEMILL_UNROLL
        for (int p = 0; p < kPanels; ++p) {
          const unsigned char* row = panels + p * tile.panel_stride + step * 64;
          weights[p] = Numbers::slice(_mm512_loadu_si512(row), s);
        }
        TIDEMILL_UNROLL_16
        for (int r = 0; r < kRows; ++r) {
          const __m512i inputs = x[r];
          TIDEMILL_UNROLL
          for (int p = 0; p < kPanels; ++p) {
            add_products(sums[r][p], weights[p], inputs);
          }
        }
        x.advance(4);
      }
    }
    asks.at_scales(group.scales);
    __m512 scales[kPanels];
    __m512 offsets[kPanels];
    TIDEMILL_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      const unsigned char* row = tile.panels + p * tile.panel_stride + group.scales;
      scales[p] = tile.format.group == 0 ? _mm512_loadu_ps(row) : halves_at(row);
      offsets[p] = has_offsets ? halves_at(row + 32) : _mm512_setzero_ps();
    }
    const InputRows512<kRows> sums_of_inputs = scales_of_inputs;
    scales_of_inputs.advance(-4);
    TIDEMILL_UNROLL_16
    for (int r = 0; r < kRows; ++r) {
      const __m512 of_input = _mm512_castsi512_ps(scales_of_inputs[r]);
      TIDEMILL_UNROLL
      for (int p = 0; p < kPanels; ++p) {
        float* total = tile.sums + (r * kTilePanels + p) * 16;
        const __m512 sum = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r][p]), of_input);
        const __m512 before = group.index == 0 ? _mm512_setzero_ps() : _mm512_loadu_ps(total);
        __m512 after = _mm512_fmadd_ps(sum, scales[p], before);
        if (has_offsets) {
          const __m512 of_sum = _mm512_mul_ps(of_input, _mm512_cvtepi32_ps(sums_of_inputs[r]));
          after = _mm512_fmadd_ps(offsets[p], of_sum, after);
        }
        _mm512_storeu_ps(total, after);
      }
    }
  }
}

template <typename Numbers, int kRows, int kPanels>
constexpr Tile kStream = tile_of<Numbers, kRows, kPanels, AsksFarAhead<kPanels>>;
template <typename Numbers>
constexpr Tile kStreams[kTileRows][3] = {
    {kStream<Numbers, 1, 1>, kStream<Numbers, 1, 2>, kStream<Numbers, 1, 4>},
    {kStream<Numbers, 2, 1>, kStream<Numbers, 2, 2>, kStream<Numbers, 2, 4>},
    {kStream<Numbers, 3, 1>, kStream<Numbers, 3, 2>, kStream<Numbers, 3, 4>},
    {kStream<Numbers, 4, 1>, kStream<Numbers, 4, 2>, kStream<Numbers, 4, 4>},
    {kStream<Numbers, 5, 1>, kStream<Numbers, 5, 2>, kStream<Numbers, 5, 4>},
    {kStream<Numbers, 6, 1>, kStream<Numbers, 6, 2>, kStream<Numbers, 6, 4>},
};

template <typename Numbers, int kRows, int kPanels, bool kEightToo>
constexpr Tile kNear = tile_of<Numbers, kRows, kPanels, AsksNear<kPanels, kEightToo>>;
template <typename Numbers, bool kEightToo>
constexpr Tile kNearStreams[kTileRows][4] = {
    {kNear<Numbers, 1, 1, kEightToo>, kNear<Numbers, 1, 2, kEightToo>,
     kNear<Numbers, 1, 4, kEightToo>, kNear<Numbers, 1, 8, kEightToo>},
    {kNear<Numbers, 2, 1, kEightToo>, kNear<Numbers, 2, 2, kEightToo>,
     kNear<Numbers, 2, 4, kEightToo>, kNear<Numbers, 2, 8, kEightToo>},
    {kNear<Numbers, 3, 1, kEightToo>, kNear<Numbers, 3, 2, kEightToo>,
     kNear<Numbers, 3, 4, kEightToo>, nullptr},
    {kNear<Numbers, 4, 1, kEightToo>, kNear<Numbers, 4, 2, kEightToo>,
     kNear<Numbers, 4, 4, kEightToo>, nullptr},
    {kNear<Numbers, 5, 1, kEightToo>, kNear<Numbers, 5, 2, kEightToo>,
     kNear<Numbers, 5, 4, kEightToo>, nullptr},
    {kNear<Numbers, 6, 1, kEightToo>, kNear<Numbers, 6, 2, kEightToo>,
     kNear<Numbers, 6, 4, kEightToo>, nullptr},
};

// int4 with zero points the other way round: weights are signed, without their zero, and inputs
// unsigned, 128 more than they are. What that adds is alike for all rows, so that no sum begins
// with a multiplication. And half as many sums leave room for the totals. Multiplications of all
// kinds share two units, and stores take of their time, too (Zen 4).
template <int kPanels>
struct SignedGroup {
  SignedGroup(const ProductTile& tile, const GroupWalk& group) : stride_(tile.panel_stride) {
    // 128 times its inputs, which are a power of two: padding, of q = 0, counts.
    const __m512i inputs_log = _mm512_set1_epi32(7 + 3 + __builtin_ctzll(group.num_rows));
    const __m512i mask = _mm512_set1_epi32(kInt4ZeroMask);
    const __m512i lowest_bytes =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12));
    TIDEMILL_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      const __m512i words = words_at(tile.panels + p * stride_ + group.scales);
      const __m512i zero = _mm512_and_si512(words, mask);
      const __m512i sum_of_q = _mm512_slli_epi32(_mm512_andnot_si512(mask, words), 2);  // by 128
      before[p] = _mm512_sub_epi32(_mm512_sllv_epi32(zero, inputs_log), sum_of_q);
      zeros_[p] = _mm512_shuffle_epi8(zero, lowest_bytes);
    }
  }
  __m512i weights(const unsigned char* row, int p, int slice) const {
    return _mm512_sub_epi8(Int4::slice(_mm512_loadu_si512(row + p * stride_), slice), zeros_[p]);
  }

  // -128 times the sum of each channel's weights.
  __m512i before[kPanels];

 private:
  int64_t stride_;
  __m512i zeros_[kPanels];
};

// Asks for one of the panels that are wanted next, the other one being the next tile's.
template <int kRows, int kPanels>
void signed_tile_of(const ProductTile& given) {
  const ProductTile tile = copy_of(given);
  const unsigned char* ahead = panels_ahead(tile);
  const OthersAhead<1> others(tile);
  const __m512i flip = _mm512_set1_epi8(-128);
  __m512 totals[kRows][kPanels];
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    TIDEMILL_UNROLL
    for (int p = 0; p < kPanels; ++p) totals[r][p] = _mm512_setzero_ps();
  }
  for (GroupWalk group(tile, Int4::kInputsPerRow); group.next();) {
    const SignedGroup<kPanels> numbers(tile, group);
    __m512i sums[kRows][kPanels];
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      TIDEMILL_UNROLL
      for (int p = 0; p < kPanels; ++p) sums[r][p] = numbers.before[p];
    }
    const unsigned char* panels = tile.panels + group.rows;
    InputRows512<kRows> x(tile.in + group.index * tile.format.group, tile.in_stride);
    for (int64_t step = 0; step < group.num_rows; ++step) {
      _mm_prefetch(reinterpret_cast<const char*>(ahead + group.rows + step * 64), _MM_HINT_T1);
      others.ask(group.rows + step * 64);
      TIDEMILL_UNROLL
      for (int s = 0; s < Int4::kSlices; ++s) {
        __m512i weights[kPanels];
        TIDEMILL_UNROLL
        for (int p = 0; p < kPanels; ++p) weights[p] = numbers.weights(panels + step * 64, p, s);
        TIDEMILL_UNROLL
        for (int r = 0; r < kRows; ++r) {
          const __m512i inputs = x.flipped(r, flip);
          TIDEMILL_UNROLL
          for (int p = 0; p < kPanels; ++p) add_products(sums[r][p], inputs, weights[p]);
        }
        x.advance(4);
      }
    }
    const InputRows512<kRows> of_inputs(scale_of_input(tile, 0, group.index), tile.in_stride);
    __m512 scales[kPanels];
    TIDEMILL_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      scales[p] = halves_at(tile.panels + p * tile.panel_stride + group.scales);
    }
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const __m512 of_input = _mm512_castsi512_ps(of_inputs[r]);
      TIDEMILL_UNROLL
      for (int p = 0; p < kPanels; ++p) {
        const __m512 sum = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r][p]), of_input);
        totals[r][p] = _mm512_fmadd_ps(sum, scales[p], totals[r][p]);
      }
    }
  }
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    TIDEMILL_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      _mm512_storeu_ps(tile.sums + (r * kTilePanels + p) * 16, totals[r][p]);
    }
  }
}

constexpr int kSignedRows = 6;
constexpr Tile kSignedTiles[kSignedRows][2] = {
    {signed_tile_of<1, 1>, signed_tile_of<1, 2>}, {signed_tile_of<2, 1>, signed_tile_of<2, 2>},
    {signed_tile_of<3, 1>, signed_tile_of<3, 2>}, {signed_tile_of<4, 1>, signed_tile_of<4, 2>},
    {signed_tile_of<5, 1>, signed_tile_of<5, 2>}, {signed_tile_of<6, 1>, signed_tile_of<6, 2>},
};

// Many rows: two panels stay in L1 for all of them, and each line of theirs meets twelve rows. That
// is about the time in which memory brings the next line.
constexpr int kBlockRows = 12;

template <typename Numbers, int kRows, int kPanels>
constexpr Tile kBlock = tile_of<Numbers, kRows, kPanels, AsksForOthersToo<Numbers, kRows, kPanels>>;
template <typename Numbers>
constexpr Tile kBlocks[kBlockRows][2] = {
    {kBlock<Numbers, 1, 1>, kBlock<Numbers, 1, 2>},
    {kBlock<Numbers, 2, 1>, kBlock<Numbers, 2, 2>},
    {kBlock<Numbers, 3, 1>, kBlock<Numbers, 3, 2>},
    {kBlock<Numbers, 4, 1>, kBlock<Numbers, 4, 2>},
    {kBlock<Numbers, 5, 1>, kBlock<Numbers, 5, 2>},
    {kBlock<Numbers, 6, 1>, kBlock<Numbers, 6, 2>},
    {kBlock<Numbers, 7, 1>, kBlock<Numbers, 7, 2>},
    {kBlock<Numbers, 8, 1>, kBlock<Numbers, 8, 2>},
    {kBlock<Numbers, 9, 1>, kBlock<Numbers, 9, 2>},
    {kBlock<Numbers, 10, 1>, kBlock<Numbers, 10, 2>},
    {kBlock<Numbers, 11, 1>, kBlock<Numbers, 11, 2>},
    {kBlock<Numbers, 12, 1>, kBlock<Numbers, 12, 2>},
};

// Many rows. A pair of panels is wanted in L2 while the pair before it is multiplied: the first
// tiles of rows ask for it, each for kAskedFor of the two.
template <int kMostRows, int kAskedFor>
void run_pairs(const ProductTile& part, const Tile (&tiles)[kMostRows][2]) {
  ProductTile block = copy_of(part);
  for (int64_t panel = 0; panel < part.num_panels; panel += 2) {
    const int64_t width = part.num_panels - panel < 2 ? 1 : 2;
    block.panels = part.panels + panel * part.panel_stride;
    const unsigned char* const next =
        panel + 2 < part.num_panels ? block.panels + 2 * part.panel_stride : part.ahead;
    for (int64_t row = 0; row < part.num_rows; row += kMostRows) {
      const int64_t asked = row / kMostRows * kAskedFor;
      block.ahead = next != nullptr && asked < 2 ? next + asked * part.panel_stride : nullptr;
      block.num_rows = part.num_rows - row < kMostRows ? part.num_rows - row : kMostRows;
      block.in = part.in + row * part.in_stride;
      block.sums = part.sums + row * kTilePanels * 16 + panel * 16;
      tiles[block.num_rows - 1][width - 1](block);
    }
  }
}

// Groups of a power of two, and rows that do not wait for memory as well, as a decode's do: of 16
// whose weights come from there the signed tiles of six have not been faster.
bool takes_signed_tiles(const ProductTile& part) {
  const PackedFormat& format = part.format;
  return (part.panels_are_near || part.num_rows > 16) && format.numbers == Numbers::kInt4 &&
         format.offsets == Offsets::kZero && format.group > 0 && format.group <= kMaxSummedGroup &&
         (format.group & (format.group - 1)) == 0;
}

template <typename Numbers>
void run(const ProductTile& part) {
  if (part.num_rows <= kTileRows) return run_streams(part, kStreams<Numbers>);
  if (takes_signed_tiles(part)) return run_pairs<kSignedRows, 1>(part, kSignedTiles);
  run_pairs<kBlockRows, 2>(part, kBlocks<Numbers>);
}

// One and two rows take eight panels at once, whose beginnings are asked for.
template <typename Numbers, bool kEightToo>
void run_near(const ProductTile& part) {
  ProductTile few = copy_of(part);
  if (part.num_rows > 2) few.ahead = nullptr;
  run_tiles(few, kNearStreams<Numbers, kEightToo>);
}

}  // namespace

void product_int8(const ProductTile& tile) { run<Int8>(tile); }
void product_int4(const ProductTile& tile) { run<Int4>(tile); }
void few_rows_int8(const ProductTile& tile) { run_near<Int8, false>(tile); }
void few_rows_int4(const ProductTile& tile) { run_near<Int4, true>(tile); }

}  // namespace tidemill::avx512vnni

// Integer products without VNNI: VPMADDUBSW multiplies unsigned bytes with signed ones and adds
// pairs into 16 bits, where it saturates. Weights are therefore taken as nibbles: 15 * 128 * 2 is
// 3840, and eight of those fit 16 bits. int8 is two planes of nibbles, the upper one counts 16
// times.
//
// Included by the product_*.cc files of the variants, which bring `V`: a register of V::kChannels
// channels, a whole or half row of a panel. In an unnamed namespace, as product_tiles.h explains.
#pragma once

#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/product_groups.h"
#include "kernels/host/product_tiles.h"
#include "kernels/host/unroll.h"

namespace tidemill {
namespace {

struct Int8Planes {
  static constexpr int64_t kInputsPerRow = 4;
  static constexpr int32_t kMiddle = 128;
  static constexpr uint8_t kZeroMask = 255;
  static constexpr int kPlanes = 2;  // 16-bit sums for each output
};
struct Int4Planes {
  static constexpr int64_t kInputsPerRow = 8;
  static constexpr int32_t kMiddle = 8;
  static constexpr uint8_t kZeroMask = kInt4ZeroMask;
  static constexpr int kPlanes = 1;
};

inline constexpr int64_t kInputsPerChunk = 32;  // what 16 bits hold
inline constexpr int kMaddubsRows = 6;          // of a tile, at most
inline constexpr int kMaddubsStreamingRows = 2;

// Columns are registers of channels; where those of a tile are in its panels.
template <typename V>
struct Columns {
  static constexpr int kPerPanel = 16 / V::kChannels;
  static constexpr int64_t panel(int64_t col) { return col / kPerPanel; }
  static constexpr int64_t channel(int64_t col) { return col % kPerPanel * V::kChannels; }
};

// Pairs of products, added to the words of before or, first, instead of them. Not intrinsics: GCC
// 12 makes the products of several lines at once and keeps them in memory.
template <typename V, bool kFirst>
[[gnu::always_inline]] inline void add_products(typename V::I& words, typename V::I weights,
                                                typename V::I inputs) {
  if constexpr (kFirst) {
    __asm__("vpmaddubsw %2, %1, %0" : "=v"(words) : "v"(weights), "v"(inputs));
  } else {
    typename V::I products;
    __asm__("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0"
            : "+v"(words), "=&v"(products)
            : "v"(weights), "v"(inputs));
  }
}

// What is wanted soon: panels lie one behind the other, so that this reaches the next one, too.
template <typename V, int kCols>
[[gnu::always_inline]] inline void fetch_lines(const unsigned char* line, int64_t panel_stride,
                                               int64_t count) {
  constexpr int64_t kAhead = 2048;  // bytes
  for (int64_t i = 0; i < count; ++i) {
    TIDEMILL_UNROLL
    for (int c = 0; c < kCols; c += Columns<V>::kPerPanel) {
      const unsigned char* at = line + Columns<V>::panel(c) * panel_stride + i * 64 + kAhead;
      _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T0);
    }
  }
}

// A line of every column times its inputs, which x leaves behind. kFirst: of a chunk, whose words
// begin.
template <typename V, typename Numbers, bool kFirst, int kRows, int kCols>
[[gnu::always_inline]] inline void add_line(
    const unsigned char* line, int64_t panel_stride, InputRows<V, kRows>& x,
    typename V::I (&words)[kRows][kCols][Numbers::kPlanes]) {
  using I = typename V::I;
  const auto numbers = [&](int c) {
    return V::load(line + Columns<V>::panel(c) * panel_stride + Columns<V>::channel(c) * 4);
  };
  if constexpr (Numbers::kPlanes == 2) {
    TIDEMILL_UNROLL
    for (int c = 0; c < kCols; ++c) {
      const I low = V::low_nibbles(numbers(c));
      const I high = V::low_nibbles(V::shift_words_right(numbers(c)));
      TIDEMILL_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const I inputs = x[r];
        add_products<V, kFirst>(words[r][c][0], low, inputs);
        add_products<V, kFirst>(words[r][c][1], high, inputs);
      }
    }
    x.advance(4);
  } else {
    TIDEMILL_UNROLL
    for (int half = 0; half < 2; ++half) {
      I weights[kCols];
      TIDEMILL_UNROLL
      for (int c = 0; c < kCols; ++c) {
        weights[c] = V::low_nibbles(half == 0 ? numbers(c) : V::shift_words_right(numbers(c)));
      }
      TIDEMILL_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const I inputs = x[r];
        TIDEMILL_UNROLL
        for (int c = 0; c < kCols; ++c) {
          if (half == 0) {
            add_products<V, kFirst>(words[r][c][0], weights[c], inputs);
          } else {
            add_products<V, false>(words[r][c][0], weights[c], inputs);
          }
        }
      }
      x.advance(4);
    }
  }
}

// Where row r's sums of column c stand.
template <typename V>
constexpr int64_t sums_at(int r, int c) {
  return r * kRowSums + Columns<V>::panel(c) * 16 + Columns<V>::channel(c);
}

// What groups are added to. A tile clears its own sums, which brings them into L1.
template <typename V, int kRows, int kCols>
[[gnu::always_inline]] inline void clear_sums(float* out) {
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    TIDEMILL_UNROLL
    for (int c = 0; c < kCols; ++c) V::store(out + sums_at<V>(r, c), V::zero());
  }
}

// The sums of a group become floats. Their order is part of the format's meaning (inner.h).
template <typename V, typename Numbers, Offsets kOffsets, int kRows, int kCols>
[[gnu::always_inline]] inline void add_group(const ProductTile& tile, int64_t group,
                                             const unsigned char* scales_at, int64_t channel,
                                             const typename V::I (&sums)[kRows][kCols],
                                             float* out) {
  using I = typename V::I;
  using F = typename V::F;
  F scales[kCols];
  TIDEMILL_UNROLL
  for (int c = 0; c < kCols; ++c) {
    const unsigned char* row = scales_at + Columns<V>::panel(c) * tile.panel_stride;
    const int64_t first = channel + Columns<V>::channel(c);
    scales[c] =
        tile.format.group == 0 ? V::floats_at(row + first * 4) : V::halves_at(row + first * 2);
  }
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const unsigned char* of_input = scale_of_input(tile, r, group);
    const F x_scale = V::set1_float(*reinterpret_cast<const float*>(of_input));
    const I x_sum = V::set1(*reinterpret_cast<const int32_t*>(of_input + 4));
    const I middle = V::multiply(V::set1(Numbers::kMiddle), x_sum);
    TIDEMILL_UNROLL
    for (int c = 0; c < kCols; ++c) {
      const unsigned char* row = scales_at + Columns<V>::panel(c) * tile.panel_stride;
      const int64_t first = channel + Columns<V>::channel(c);
      float* target = out + sums_at<V>(r, c);
      F total = V::floats_at(target);
      I sum = sums[r][c];
      if constexpr (kOffsets == Offsets::kNone) {
        sum = V::subtract(sum, middle);
      } else if constexpr (kOffsets == Offsets::kZero) {
        const I zeros = V::masked(V::words_at(row + 32 + first * 2), Numbers::kZeroMask);
        sum = V::subtract(sum, V::multiply(zeros, x_sum));
      }
      total = V::fma(V::scaled(sum, x_scale), scales[c], total);
      if constexpr (kOffsets == Offsets::kOffset) {
        total = V::fma(V::halves_at(row + 32 + first * 2), V::scaled(x_sum, x_scale), total);
      }
      V::store(target, total);
    }
  }
}

// Rows of the input x columns from `first` on. kOneChunk: so many inputs are a group, whose sums
// need no place to wait for each other.
template <typename V, typename Numbers, Offsets kOffsets, bool kOneChunk, int kRows, int kCols>
void maddubs_groups(const ProductTile& given, int64_t first) {
  using I = typename V::I;
  using Cols = Columns<V>;
  const ProductTile tile = copy_of(given);
  const unsigned char* panels = tile.panels + Cols::panel(first) * tile.panel_stride;
  const int64_t channel = Cols::channel(first);
  float* out = tile.sums + Cols::panel(first) * 16 + channel;
  clear_sums<V, kRows, kCols>(out);
  constexpr int64_t kLinesPerChunk = kInputsPerChunk / Numbers::kInputsPerRow;
  for (GroupWalk group(tile, Numbers::kInputsPerRow); group.next();) {
    I sums[kRows][kCols];
    if constexpr (!kOneChunk) {
      TIDEMILL_UNROLL_16
      for (int i = 0; i < kRows * kCols; ++i) sums[i / kCols][i % kCols] = V::set1(0);
    }
    InputRows<V, kRows> x(tile.in + group.index * tile.format.group, tile.in_stride);
    const unsigned char* line = panels + group.rows + channel * 4;
    int64_t row = 0;
    do {
      fetch_lines<V, kCols>(line, tile.panel_stride, kLinesPerChunk);
      I words[kRows][kCols][Numbers::kPlanes];
      add_line<V, Numbers, true>(line, tile.panel_stride, x, words);
#pragma GCC unroll 1
      for (int64_t i = 1; i < kLinesPerChunk; ++i) {
        line += 64;
        add_line<V, Numbers, false>(line, tile.panel_stride, x, words);
      }
      line += 64;
      TIDEMILL_UNROLL
      for (int r = 0; r < kRows; ++r) {
        TIDEMILL_UNROLL
        for (int c = 0; c < kCols; ++c) {
          I sum = V::add_pairs(words[r][c][0], 1);
          if constexpr (!kOneChunk) sum = V::add(sums[r][c], sum);
          if constexpr (Numbers::kPlanes == 2) {
            sum = V::add(sum, V::add_pairs(words[r][c][1], 16));
          }
          sums[r][c] = sum;
        }
      }
      row += kLinesPerChunk;
    } while (!kOneChunk && row < group.num_rows);
    const unsigned char* scales = panels + group.scales;
    add_group<V, Numbers, kOffsets>(tile, group.index, scales, channel, sums, out);
  }
}

template <typename V, typename Numbers, int kRows, int kCols>
void maddubs_tile(const ProductTile& tile, int64_t first) {
  const bool one_chunk = tile.format.group == kInputsPerChunk;
#define TIDEMILL_GROUPS(offsets)                                                   \
  one_chunk ? maddubs_groups<V, Numbers, offsets, true, kRows, kCols>(tile, first) \
            : maddubs_groups<V, Numbers, offsets, false, kRows, kCols>(tile, first)
  switch (tile.format.offsets) {
    case Offsets::kNone:
      return TIDEMILL_GROUPS(Offsets::kNone);
    case Offsets::kZero:
      return TIDEMILL_GROUPS(Offsets::kZero);
    case Offsets::kOffset:
      return TIDEMILL_GROUPS(Offsets::kOffset);
  }
#undef TIDEMILL_GROUPS
}

// Columns first .. end: kCols at once while there are so many, then one by one.
template <typename V, typename Numbers, int kRows, int kCols>
void maddubs_columns(const ProductTile& tile, int64_t first, int64_t end) {
  for (; first + kCols <= end; first += kCols) {
    maddubs_tile<V, Numbers, kRows, kCols>(tile, first);
  }
  if constexpr (kCols > 1) {
    for (; first < end; ++first) maddubs_tile<V, Numbers, kRows, 1>(tile, first);
  }
}

// Registers of `words` that V has room for beside weights and input. One or two rows wait for
// memory, which is fastest with few streams: of short panels each begins anew.
template <typename V, typename Numbers, int kRows>
constexpr int columns_at_once() {
  return kRows <= kMaddubsStreamingRows ? 2 : V::kWords / Numbers::kPlanes / kMaddubsRows;
}

template <typename V, typename Numbers>
void maddubs_product(const ProductTile& whole) {
  using Cols = Columns<V>;
  using Tiles = void (*)(const ProductTile& tile, int64_t first, int64_t end);
#define TIDEMILL_COLUMNS(rows) \
  maddubs_columns<V, Numbers, rows, columns_at_once<V, Numbers, rows>()>
  constexpr Tiles kTiles[kMaddubsRows] = {TIDEMILL_COLUMNS(1), TIDEMILL_COLUMNS(2),
                                          TIDEMILL_COLUMNS(3), TIDEMILL_COLUMNS(4),
                                          TIDEMILL_COLUMNS(5), TIDEMILL_COLUMNS(6)};
#undef TIDEMILL_COLUMNS
  const int64_t cols = whole.num_panels * Cols::kPerPanel;
  if (whole.num_rows <= kMaddubsStreamingRows) return kTiles[whole.num_rows - 1](whole, 0, cols);
  // Whole panels, which stay in L1 for all rows; rows in tiles of like size.
  constexpr int64_t kCols = columns_at_once<V, Numbers, kMaddubsRows>();
  constexpr int64_t kTogether = kCols < Cols::kPerPanel ? Cols::kPerPanel : kCols;
  for (int64_t col = 0; col < cols; col += kTogether) {
    const int64_t end = col + kTogether < cols ? col + kTogether : cols;
    int64_t tiles = (whole.num_rows + kMaddubsRows - 1) / kMaddubsRows;
    for (int64_t row = 0; row < whole.num_rows; --tiles) {
      ProductTile part = copy_of(whole);
      part.in += row * whole.in_stride;
      part.sums += row * kRowSums;
      part.num_rows = (whole.num_rows - row + tiles - 1) / tiles;
      kTiles[part.num_rows - 1](part, col, end);
      row += part.num_rows;
    }
  }
}

}  // namespace
}  // namespace tidemill

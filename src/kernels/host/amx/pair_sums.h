// Sums of products of bf16 in the order in which a tile adds them (products.h), with AVX-512: for
// rows that are too few for a tile, so that they have the same bits there as among many.
//
// In an unnamed namespace, as attention_loop.h of the folder above explains.
#pragma once

#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/amx/tiles.h"
#include "kernels/host/unroll.h"

namespace tidemill {
namespace {

constexpr int64_t kPairsPerTile = kTileHeight;  // of inputs, that a tile of weights holds

// What one tile of weights adds: the even products and the odd ones apart, each by fused
// multiply-add from zero.
template <int kRows, int kColumns>
struct PairSums {
  __m512 even[kRows][kColumns];
  __m512 odd[kRows][kColumns];

  [[gnu::always_inline]] void clear() {
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      TIDEMILL_UNROLL
      for (int c = 0; c < kColumns; ++c) even[r][c] = odd[r][c] = _mm512_setzero_ps();
    }
  }

  // A pair of each row times a line of 16 pairs of each column: line(c).
  template <typename Line>
  [[gnu::always_inline]] void add(const int32_t (&pairs)[kRows], const Line& line) {
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    __m512 even_inputs[kRows];
    __m512 odd_inputs[kRows];
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const __m512i pair = _mm512_set1_epi32(pairs[r]);
      even_inputs[r] = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
      odd_inputs[r] = _mm512_castsi512_ps(_mm512_and_si512(pair, upper));
    }
    TIDEMILL_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const __m512i words = line(c);
      const __m512 even_weights = _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
      const __m512 odd_weights = _mm512_castsi512_ps(_mm512_and_si512(words, upper));
      TIDEMILL_UNROLL
      for (int r = 0; r < kRows; ++r) {
        even[r][c] = _mm512_fmadd_ps(even_inputs[r], even_weights, even[r][c]);
        odd[r][c] = _mm512_fmadd_ps(odd_inputs[r], odd_weights, odd[r][c]);
      }
    }
  }

  [[gnu::always_inline]] void add_to(__m512 (&sums)[kRows][kColumns]) const {
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      TIDEMILL_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        sums[r][c] = _mm512_add_ps(sums[r][c], _mm512_add_ps(even[r][c], odd[r][c]));
      }
    }
  }
};

// Element `index` of each of kRows rows of pairs.
template <int kRows, typename RowAt>
[[gnu::always_inline]] inline void pairs_at(const RowAt& row, int64_t index,
                                            int32_t (&pairs)[kRows]) {
  TIDEMILL_UNROLL
  for (int r = 0; r < kRows; ++r) pairs[r] = row(r)[index];
}

}  // namespace
}  // namespace tidemill

// Rows of floats, which lie one behind the other, times lines of bf16 pairs with AVX2: the
// innermost step of products. In an unnamed namespace, as product_tiles.h explains.
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace tidemill {
namespace {

constexpr int64_t kLineRowFloats = 192;  // from a row of inputs to the next
static_assert(kLineRowFloats * sizeof(float) == 768, "as TIDEMILL_ROW has it");

// One assembly for all that two lines and their rows need. Of intrinsics GCC 12 makes twelve sums
// in fourteen registers and keeps the rest, or the mask, in memory: 52 instructions for a line and
// six rows instead of 45, of which others on the core's second thread leave fewer at a time.
#define TIDEMILL_ROW(r, at)                                 \
  "vbroadcastss " at "+768*" #r "(%[x]), %[input]\n\t"      \
  "vfmadd231ps %[first], %[input], %[sum_" #r "_first]\n\t" \
  "vfmadd231ps %[second], %[input], %[sum_" #r "_second]\n\t"
#define TIDEMILL_ROWS_3(at) TIDEMILL_ROW(0, at) TIDEMILL_ROW(1, at) TIDEMILL_ROW(2, at)
#define TIDEMILL_ROWS_4(at) TIDEMILL_ROWS_3(at) TIDEMILL_ROW(3, at)
#define TIDEMILL_ROWS_5(at) TIDEMILL_ROWS_4(at) TIDEMILL_ROW(4, at)
#define TIDEMILL_ROWS_6(at) TIDEMILL_ROWS_5(at) TIDEMILL_ROW(5, at)
#define TIDEMILL_SUMS(r) [sum_##r##_first] "+x"(sums[r][0]), [sum_##r##_second] "+x"(sums[r][1])
#define TIDEMILL_SUMS_3 TIDEMILL_SUMS(0), TIDEMILL_SUMS(1), TIDEMILL_SUMS(2)
#define TIDEMILL_SUMS_4 TIDEMILL_SUMS_3, TIDEMILL_SUMS(3)
#define TIDEMILL_SUMS_5 TIDEMILL_SUMS_4, TIDEMILL_SUMS(4)
#define TIDEMILL_SUMS_6 TIDEMILL_SUMS_5, TIDEMILL_SUMS(5)
#define TIDEMILL_LINE(rows, line, even, odd)                   \
  "vmovdqu " line "(%[lines]), %[first]\n\t"                   \
  "vmovdqu " line "+32(%[lines]), %[second]\n\t"               \
  "vpslld $16, %[first], %[first]\n\t"                         \
  "vpslld $16, %[second], %[second]\n\t" TIDEMILL_ROWS_##rows( \
      even) "vpand " line "(%[lines]), %[upper], %[first]\n\t" \
            "vpand " line "+32(%[lines]), %[upper], %[second]\n\t" TIDEMILL_ROWS_##rows(odd)
#define TIDEMILL_LINES_1(rows) TIDEMILL_LINE(rows, "0", "0", "4")
#define TIDEMILL_LINES_2(rows) TIDEMILL_LINES_1(rows) TIDEMILL_LINE(rows, "64", "8", "12")
#define TIDEMILL_ADD(rows, num_lines)                                                            \
  __asm__(                                                                                       \
      TIDEMILL_LINES_##num_lines(rows)                                                           \
      : TIDEMILL_SUMS_##rows, [first] "=&x"(first), [second] "=&x"(second), [input] "=&x"(input) \
      : [x] "r"(x), [lines] "r"(lines), [upper] "x"(upper)                                       \
      : "memory")
#define TIDEMILL_ADD_LINES(rows) \
  if constexpr (kRows == rows) { \
    if constexpr (kLines == 2) { \
      TIDEMILL_ADD(rows, 2);     \
    } else {                     \
      TIDEMILL_ADD(rows, 1);     \
    }                            \
  }

// sums[r] += x[r * kLineRowFloats + 2 l] times the even elements of the 16 pairs of line l, then
// the next x times the odd ones; line by line. `upper` is 0xffff0000 in every element.
template <int kRows, int kLines>
[[gnu::always_inline]] inline void add_lines(const unsigned char* lines, const float* x,
                                             __m256i upper, __m256 (&sums)[kRows][2]) {
  static_assert(kRows >= 3 && kRows <= 6 && kLines >= 1 && kLines <= 2);
  __m256 first;
  __m256 second;
  __m256 input;
  TIDEMILL_ADD_LINES(3)
  TIDEMILL_ADD_LINES(4)
  TIDEMILL_ADD_LINES(5)
  TIDEMILL_ADD_LINES(6)
}

#undef TIDEMILL_ADD_LINES
#undef TIDEMILL_ADD
#undef TIDEMILL_LINES_2
#undef TIDEMILL_LINES_1
#undef TIDEMILL_LINE
#undef TIDEMILL_SUMS_6
#undef TIDEMILL_SUMS_5
#undef TIDEMILL_SUMS_4
#undef TIDEMILL_SUMS_3
#undef TIDEMILL_SUMS
#undef TIDEMILL_ROWS_6
#undef TIDEMILL_ROWS_5
#undef TIDEMILL_ROWS_4
#undef TIDEMILL_ROWS_3
#undef TIDEMILL_ROW

}  // namespace
}  // namespace tidemill

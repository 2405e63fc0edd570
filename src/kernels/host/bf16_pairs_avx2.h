// Rows of floats times lines of bf16 pairs with AVX2: the innermost step of attention and of
// products. In an unnamed namespace, as attention_loop.h explains.
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace tidemill {
namespace {

// Of each element of a register.
constexpr uint32_t kUpperHalf = 0xffff0000u;

// One assembly for all that a line and its rows need. Of intrinsics, and of shorter pieces, GCC 12
// makes twelve sums in fourteen registers and keeps the rest, or the mask, in memory: 52
// instructions for a line and six rows instead of 46, which counts where somebody else uses the
// core's second thread.
//
// TIDEMILL_INPUT(r, at): where the input of row r stands that is `at` bytes on. Six rows are all
// operands that an assembly may have: each sum is two of them, and so memory is none of them.
#define TIDEMILL_ROW(r, at)                                                                       \
  "vbroadcastss " TIDEMILL_INPUT(r, at) ", %[input]\n\t"                                          \
                                        "vfmadd231ps %[first], %[input], %[sum_" #r "_first]\n\t" \
                                        "vfmadd231ps %[second], %[input], %[sum_" #r              \
                                        "_second]\n\t"
#define TIDEMILL_ROWS_1(at) TIDEMILL_ROW(0, at)
#define TIDEMILL_ROWS_2(at) TIDEMILL_ROWS_1(at) TIDEMILL_ROW(1, at)
#define TIDEMILL_ROWS_3(at) TIDEMILL_ROWS_2(at) TIDEMILL_ROW(2, at)
#define TIDEMILL_ROWS_4(at) TIDEMILL_ROWS_3(at) TIDEMILL_ROW(3, at)
#define TIDEMILL_ROWS_5(at) TIDEMILL_ROWS_4(at) TIDEMILL_ROW(4, at)
#define TIDEMILL_ROWS_6(at) TIDEMILL_ROWS_5(at) TIDEMILL_ROW(5, at)
#define TIDEMILL_SUMS(r) [sum_##r##_first] "+&x"(sums[r][0]), [sum_##r##_second] "+&x"(sums[r][1])
#define TIDEMILL_SUMS_1 TIDEMILL_SUMS(0)
#define TIDEMILL_SUMS_2 TIDEMILL_SUMS_1, TIDEMILL_SUMS(1)
#define TIDEMILL_SUMS_3 TIDEMILL_SUMS_2, TIDEMILL_SUMS(2)
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
#define TIDEMILL_OUTPUTS(rows) \
  TIDEMILL_SUMS_##rows, [first] "=&x"(first), [second] "=&x"(second), [input] "=&x"(input)

#define TIDEMILL_INPUT(r, at) at "(%[x" #r "])"
#define TIDEMILL_INPUTS_1 [x0] "r"(x[0])
#define TIDEMILL_INPUTS_2 TIDEMILL_INPUTS_1, [x1] "r"(x[1])
#define TIDEMILL_INPUTS_3 TIDEMILL_INPUTS_2, [x2] "r"(x[2])
#define TIDEMILL_INPUTS_4 TIDEMILL_INPUTS_3, [x3] "r"(x[3])
#define TIDEMILL_ADD(rows)                                                  \
  if constexpr (kRows == rows) {                                            \
    __asm__(TIDEMILL_LINE(rows, "0", "0", "4")                              \
            : TIDEMILL_OUTPUTS(rows)                                        \
            : TIDEMILL_INPUTS_##rows, [lines] "r"(line), [upper] "x"(upper) \
            : "memory");                                                    \
  }

// sums[r] += x[r][0] times the even elements of the 16 pairs at `line`, then x[r][1] times the odd
// ones. `upper` is kUpperHalf in every element.
template <int kRows>
[[gnu::always_inline]] inline void add_pairs_of_line(const unsigned char* line,
                                                     const float* const (&x)[kRows], __m256i upper,
                                                     __m256 (&sums)[kRows][2]) {
  static_assert(kRows >= 1 && kRows <= 4);
  __m256 first;
  __m256 second;
  __m256 input;
  TIDEMILL_ADD(1)
  TIDEMILL_ADD(2)
  TIDEMILL_ADD(3)
  TIDEMILL_ADD(4)
}

#undef TIDEMILL_ADD
#undef TIDEMILL_INPUTS_4
#undef TIDEMILL_INPUTS_3
#undef TIDEMILL_INPUTS_2
#undef TIDEMILL_INPUTS_1
#undef TIDEMILL_INPUT

// Of rows one behind the other.
constexpr int64_t kPairRowFloats = 192;
static_assert(kPairRowFloats * sizeof(float) == 768, "as TIDEMILL_INPUT has it");
#define TIDEMILL_INPUT(r, at) at "+768*" #r "(%[x])"
#define TIDEMILL_ADD(rows)                                                          \
  if constexpr (kRows == rows) {                                                    \
    __asm__(TIDEMILL_LINE(rows, "0", "0", "4") TIDEMILL_LINE(rows, "64", "8", "12") \
            : TIDEMILL_OUTPUTS(rows)                                                \
            : [x] "r"(x), [lines] "r"(lines), [upper] "x"(upper)                    \
            : "memory");                                                            \
  }

// The same for two lines, the second of which meets the row's next two floats; row r begins at
// x + r * kPairRowFloats.
template <int kRows>
[[gnu::always_inline]] inline void add_pairs_of_two_lines(const unsigned char* lines,
                                                          const float* x, __m256i upper,
                                                          __m256 (&sums)[kRows][2]) {
  static_assert(kRows >= 3 && kRows <= 6);
  __m256 first;
  __m256 second;
  __m256 input;
  TIDEMILL_ADD(3)
  TIDEMILL_ADD(4)
  TIDEMILL_ADD(5)
  TIDEMILL_ADD(6)
}

#undef TIDEMILL_ADD
#undef TIDEMILL_INPUT
#undef TIDEMILL_OUTPUTS
#undef TIDEMILL_LINE
#undef TIDEMILL_SUMS_6
#undef TIDEMILL_SUMS_5
#undef TIDEMILL_SUMS_4
#undef TIDEMILL_SUMS_3
#undef TIDEMILL_SUMS_2
#undef TIDEMILL_SUMS_1
#undef TIDEMILL_SUMS
#undef TIDEMILL_ROWS_6
#undef TIDEMILL_ROWS_5
#undef TIDEMILL_ROWS_4
#undef TIDEMILL_ROWS_3
#undef TIDEMILL_ROWS_2
#undef TIDEMILL_ROWS_1
#undef TIDEMILL_ROW

}  // namespace
}  // namespace tidemill

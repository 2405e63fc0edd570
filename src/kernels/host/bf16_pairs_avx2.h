// Rows of floats times lines of bf16 pairs with AVX2: the innermost step of attention. In an
// unnamed namespace, as attention_loop.h explains.
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace tidemill {
namespace {

// One assembly for all that a line and its rows need. Of intrinsics, and of shorter pieces, GCC 12
// makes twelve sums in fourteen registers and keeps the rest in memory.
#define TIDEMILL_ROW(r, offset)                            \
  "vbroadcastss " offset "(%[x" r "]), %[input]\n\t"       \
  "vfmadd231ps %[first], %[input], %[sum_" r "_first]\n\t" \
  "vfmadd231ps %[second], %[input], %[sum_" r "_second]\n\t"
#define TIDEMILL_ROWS_1(offset) TIDEMILL_ROW("0", offset)
#define TIDEMILL_ROWS_2(offset) TIDEMILL_ROWS_1(offset) TIDEMILL_ROW("1", offset)
#define TIDEMILL_ROWS_3(offset) TIDEMILL_ROWS_2(offset) TIDEMILL_ROW("2", offset)
#define TIDEMILL_ROWS_4(offset) TIDEMILL_ROWS_3(offset) TIDEMILL_ROW("3", offset)
#define TIDEMILL_SUMS(r) [sum_##r##_first] "+x"(sums[r][0]), [sum_##r##_second] "+x"(sums[r][1])
#define TIDEMILL_SUMS_1 TIDEMILL_SUMS(0)
#define TIDEMILL_SUMS_2 TIDEMILL_SUMS_1, TIDEMILL_SUMS(1)
#define TIDEMILL_SUMS_3 TIDEMILL_SUMS_2, TIDEMILL_SUMS(2)
#define TIDEMILL_SUMS_4 TIDEMILL_SUMS_3, TIDEMILL_SUMS(3)
#define TIDEMILL_INPUTS_1 [x0] "r"(x[0])
#define TIDEMILL_INPUTS_2 TIDEMILL_INPUTS_1, [x1] "r"(x[1])
#define TIDEMILL_INPUTS_3 TIDEMILL_INPUTS_2, [x2] "r"(x[2])
#define TIDEMILL_INPUTS_4 TIDEMILL_INPUTS_3, [x3] "r"(x[3])
#define TIDEMILL_ADD_PAIRS(rows)                                                                 \
  __asm__(                                                                                       \
      "vmovdqu (%[line]), %[first]\n\t"                                                          \
      "vmovdqu 32(%[line]), %[second]\n\t"                                                       \
      "vpslld $16, %[first], %[first]\n\t"                                                       \
      "vpslld $16, %[second], %[second]\n\t" TIDEMILL_ROWS_##rows(                               \
          "") "vpand (%[line]), %[upper], %[first]\n\t"                                          \
              "vpand 32(%[line]), %[upper], %[second]\n\t" TIDEMILL_ROWS_##rows("4")             \
      : TIDEMILL_SUMS_##rows, [first] "=&x"(first), [second] "=&x"(second), [input] "=&x"(input) \
      : TIDEMILL_INPUTS_##rows, [line] "r"(line), [upper] "x"(upper)                             \
      : "memory")

// Of each element of a register.
constexpr uint32_t kUpperHalf = 0xffff0000u;

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
  if constexpr (kRows == 1) {
    TIDEMILL_ADD_PAIRS(1);
  } else if constexpr (kRows == 2) {
    TIDEMILL_ADD_PAIRS(2);
  } else if constexpr (kRows == 3) {
    TIDEMILL_ADD_PAIRS(3);
  } else {
    TIDEMILL_ADD_PAIRS(4);
  }
}

#undef TIDEMILL_ADD_PAIRS
#undef TIDEMILL_INPUTS_4
#undef TIDEMILL_INPUTS_3
#undef TIDEMILL_INPUTS_2
#undef TIDEMILL_INPUTS_1
#undef TIDEMILL_SUMS_4
#undef TIDEMILL_SUMS_3
#undef TIDEMILL_SUMS_2
#undef TIDEMILL_SUMS_1
#undef TIDEMILL_SUMS
#undef TIDEMILL_ROWS_4
#undef TIDEMILL_ROWS_3
#undef TIDEMILL_ROWS_2
#undef TIDEMILL_ROWS_1
#undef TIDEMILL_ROW

}  // namespace
}  // namespace tidemill

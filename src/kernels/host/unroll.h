// Says that a loop over registers must be unrolled: only then do arrays of vectors live in
// registers. GCC does not do so by itself at -O2, and not always at -O3.
#pragma once

#ifdef __clang__
#define TIDEMILL_UNROLL _Pragma("unroll")
#define TIDEMILL_UNROLL_16 _Pragma("unroll")
#else
#define TIDEMILL_UNROLL _Pragma("GCC unroll 8")
#define TIDEMILL_UNROLL_16 _Pragma("GCC unroll 16")
#endif

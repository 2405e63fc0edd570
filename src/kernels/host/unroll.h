// Says that a loop over registers must be unrolled: only then do arrays of vectors live in
// registers. GCC does not do so by itself at -O2, and not always at -O3.
#pragma once

#ifdef __clang__
#define TIDEMILL_UNROLL _Pragma("unroll")
#else
#define TIDEMILL_UNROLL _Pragma("GCC unroll 8")
#endif

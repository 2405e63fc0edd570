// The arithmetic probe with VPDPBUSD.
#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/inner.h"
#include "kernels/host/peak/peak_loop.h"

namespace tidemill::avx512vnni {
namespace {

struct DotBytes {
  using Register = __m512i;
  static constexpr int64_t kOperations = 2 * 64;
  static Register zero() { return _mm512_setzero_si512(); }
  static void use(Register sum) { __asm__ volatile("" : : "v"(sum)); }
  void add_to(Register& sum) const { __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b)); }
  Register a = _mm512_set1_epi8(3);
  Register b = _mm512_set1_epi8(-2);
};

}  // namespace

int64_t multiply_bytes(int64_t rounds) { return peak_loop<DotBytes>(rounds); }

}  // namespace tidemill::avx512vnni

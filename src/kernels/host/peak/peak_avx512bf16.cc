// The arithmetic probe with VDPBF16PS.
#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/inner.h"
#include "kernels/host/peak/peak_loop.h"

namespace tidemill::avx512bf16 {
namespace {

struct DotBf16 {
  using Register = __m512;
  static constexpr int64_t kOperations = 2 * 32;
  static Register zero() { return _mm512_setzero_ps(); }
  static void use(Register sum) { __asm__ volatile("" : : "v"(sum)); }
  void add_to(Register& sum) const { __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b)); }
  __m512i a = _mm512_set1_epi16(0x3f00);  // 0.5
  __m512i b = _mm512_set1_epi16(0x3e80);  // 0.25
};

}  // namespace

int64_t multiply_bf16(int64_t rounds) { return peak_loop<DotBf16>(rounds); }

}  // namespace tidemill::avx512bf16

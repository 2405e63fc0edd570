// The arithmetic probe with AVX-512 alone: FMA for floats (bf16 becomes floats), VPMADDUBSW and the
// addition that it needs for integers. Instructions are written out: the compiler would compute the
// same product only once.
#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/inner.h"
#include "kernels/host/peak/peak_loop.h"

namespace tidemill::avx512 {
namespace {

struct Fma {
  using Register = __m512;
  static constexpr int64_t kOperations = 2 * 16;
  static Register zero() { return _mm512_setzero_ps(); }
  static void use(Register sum) { __asm__ volatile("" : : "v"(sum)); }
  void add_to(Register& sum) const {
    __asm__("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  }
  Register a = _mm512_set1_ps(0.5f);
  Register b = _mm512_set1_ps(0.25f);
};

struct Maddubs {
  using Register = __m512i;
  static constexpr int64_t kOperations = 2 * 64;
  static Register zero() { return _mm512_setzero_si512(); }
  static void use(Register sum) { __asm__ volatile("" : : "v"(sum)); }
  void add_to(Register& sum) const {
    Register words;
    __asm__ volatile("vpmaddubsw %2, %1, %0" : "=v"(words) : "v"(a), "v"(b));
    sum = _mm512_add_epi16(sum, words);
  }
  Register a = _mm512_set1_epi8(3);
  Register b = _mm512_set1_epi8(-2);
};

}  // namespace

int64_t multiply_f32(int64_t rounds) { return peak_loop<Fma>(rounds); }
int64_t multiply_bf16(int64_t rounds) { return peak_loop<Fma>(rounds); }
int64_t multiply_bytes(int64_t rounds) { return peak_loop<Maddubs>(rounds); }

}  // namespace tidemill::avx512

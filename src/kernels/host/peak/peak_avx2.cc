// The arithmetic probe with AVX2: FMA for floats (bf16 becomes floats), VPMADDUBSW and the addition
// that it needs for integers. Instructions are written out: the compiler would compute the same
// product only once.
#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/inner.h"
#include "kernels/host/peak/peak_loop.h"

namespace tidemill::avx2 {
namespace {

struct Fma {
  using Register = __m256;
  static constexpr int64_t kOperations = 2 * 8;
  static Register zero() { return _mm256_setzero_ps(); }
  static void use(Register sum) { __asm__ volatile("" : : "x"(sum)); }
  void add_to(Register& sum) const {
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
  }
  Register a = _mm256_set1_ps(0.5f);
  Register b = _mm256_set1_ps(0.25f);
};

struct Maddubs {
  using Register = __m256i;
  static constexpr int64_t kOperations = 2 * 32;
  static Register zero() { return _mm256_setzero_si256(); }
  static void use(Register sum) { __asm__ volatile("" : : "x"(sum)); }
  void add_to(Register& sum) const {
    Register words;
    __asm__ volatile("vpmaddubsw %2, %1, %0" : "=x"(words) : "x"(a), "x"(b));
    sum = _mm256_add_epi16(sum, words);
  }
  Register a = _mm256_set1_epi8(3);
  Register b = _mm256_set1_epi8(-2);
};

}  // namespace

int64_t multiply_f32(int64_t rounds) { return peak_loop<Fma>(rounds); }
int64_t multiply_bf16(int64_t rounds) { return peak_loop<Fma>(rounds); }
int64_t multiply_bytes(int64_t rounds) { return peak_loop<Maddubs>(rounds); }

}  // namespace tidemill::avx2

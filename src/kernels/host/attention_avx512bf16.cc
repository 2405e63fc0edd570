// Attention over a bf16 cache with VDPBF16PS: pairs of dims against a row of 16 keys, pairs of
// probabilities against a row of 16 dims.
#include "kernels/host/attention_avx512_ops.h"

namespace tidemill::avx512bf16 {
namespace {

struct Bf16Ops : SoftmaxOps512 {
  // K: two halves of [head_dim / 2 pairs][16 tokens][2].
  static void scores(const AttentionTask& task, const unsigned char* run, float* out) {
    const auto* q = static_cast<const int32_t*>(task.q);
    const int64_t pairs = (task.head_dim + 1) / 2;
    __m512 first = _mm512_setzero_ps();
    __m512 second = _mm512_setzero_ps();
    for (int64_t pair = 0; pair < pairs; ++pair) {
      const auto x = (__m512bh)_mm512_set1_epi32(q[pair]);
      first = _mm512_dpbf16_ps(first, x, (__m512bh)_mm512_loadu_si512(run + pair * 64));
      second = _mm512_dpbf16_ps(second, x, (__m512bh)_mm512_loadu_si512(run + (pairs + pair) * 64));
    }
    const __m512 scale = _mm512_set1_ps(task.scale);
    _mm512_store_ps(out, _mm512_mul_ps(first, scale));
    _mm512_store_ps(out + 16, _mm512_mul_ps(second, scale));
  }

  // V: [padded_dim / 16][16 token pairs][16 dims][2].
  static void accumulate(const float* probabilities, const unsigned char* run, int64_t padded_dim,
                         float factor, float* out) {
    alignas(64) uint16_t rounded[kBlockTokens];
    _mm256_store_si256(reinterpret_cast<__m256i*>(rounded),
                       to_bf16_512(_mm512_load_ps(probabilities)));
    _mm256_store_si256(reinterpret_cast<__m256i*>(rounded + 16),
                       to_bf16_512(_mm512_load_ps(probabilities + 16)));
    const auto* pairs = reinterpret_cast<const int32_t*>(rounded);
    for (int64_t d = 0; d < padded_dim; d += 16) {
      __m512 sum = _mm512_mul_ps(_mm512_load_ps(out + d), _mm512_set1_ps(factor));
      const unsigned char* column = run + d * kBlockTokens * 2;
      for (int64_t pair = 0; pair < kBlockTokens / 2; ++pair) {
        sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(pairs[pair]),
                               (__m512bh)_mm512_loadu_si512(column + pair * 64));
      }
      _mm512_store_ps(out + d, sum);
    }
  }
};

}  // namespace

void attend_bf16(const AttentionTask& task) { attend<Bf16Ops>(task); }

}  // namespace tidemill::avx512bf16

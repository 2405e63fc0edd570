// Attention with AVX-512 and without its bf16 instructions: words of two bf16 become floats by a
// shift and a mask.
#include "kernels/host/attention_avx512_ops.h"
#include "kernels/host/unroll.h"

namespace tidemill::avx512 {
namespace {

struct F32Ops : SoftmaxOps512 {
  // K: two halves of [head_dim][16 tokens].
  static void scores(const AttentionTask& task, const unsigned char* run, float* out) {
    const auto* q = static_cast<const float*>(task.q);
    const auto* keys = reinterpret_cast<const float*>(run);
    __m512 first = _mm512_setzero_ps();
    __m512 second = _mm512_setzero_ps();
    for (int64_t d = 0; d < task.head_dim; ++d) {
      const __m512 x = _mm512_set1_ps(q[d]);
      first = _mm512_fmadd_ps(x, _mm512_loadu_ps(keys + d * 16), first);
      second = _mm512_fmadd_ps(x, _mm512_loadu_ps(keys + (task.head_dim + d) * 16), second);
    }
    const __m512 scale = _mm512_set1_ps(task.scale);
    _mm512_store_ps(out, _mm512_mul_ps(first, scale));
    _mm512_store_ps(out + 16, _mm512_mul_ps(second, scale));
  }

  // V: [padded_dim / 16][32 tokens][16 dims].
  static void accumulate(const float* probabilities, const unsigned char* run, int64_t padded_dim,
                         float factor, float* out) {
    const auto* values = reinterpret_cast<const float*>(run);
    for (int64_t d = 0; d < padded_dim; d += 16) {
      __m512 sum = _mm512_mul_ps(_mm512_load_ps(out + d), _mm512_set1_ps(factor));
      const float* column = values + d * kBlockTokens;
      for (int64_t t = 0; t < kBlockTokens; ++t) {
        sum = _mm512_fmadd_ps(_mm512_set1_ps(probabilities[t]), _mm512_loadu_ps(column + t * 16),
                              sum);
      }
      _mm512_store_ps(out + d, sum);
    }
  }
};

__m512 even_of(__m512i words) { return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16)); }
__m512 odd_of(__m512i words) {
  return _mm512_castsi512_ps(
      _mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}

struct Bf16Ops : SoftmaxOps512 {
  // K: two halves of [head_dim / 2 pairs][16 tokens][2].
  static void scores(const AttentionTask& task, const unsigned char* run, float* out) {
    const auto* q = static_cast<const int32_t*>(task.q);
    const int64_t pairs = (task.head_dim + 1) / 2;
    __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int64_t pair = 0; pair < pairs; ++pair) {
      const __m512i x = _mm512_set1_epi32(q[pair]);
      TIDEMILL_UNROLL
      for (int half = 0; half < 2; ++half) {
        const __m512i words = _mm512_loadu_si512(run + (half * pairs + pair) * 64);
        sums[half] = _mm512_fmadd_ps(even_of(x), even_of(words), sums[half]);
        sums[half] = _mm512_fmadd_ps(odd_of(x), odd_of(words), sums[half]);
      }
    }
    const __m512 scale = _mm512_set1_ps(task.scale);
    _mm512_store_ps(out, _mm512_mul_ps(sums[0], scale));
    _mm512_store_ps(out + 16, _mm512_mul_ps(sums[1], scale));
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
        const __m512i x = _mm512_set1_epi32(pairs[pair]);
        const __m512i words = _mm512_loadu_si512(column + pair * 64);
        sum = _mm512_fmadd_ps(even_of(x), even_of(words), sum);
        sum = _mm512_fmadd_ps(odd_of(x), odd_of(words), sum);
      }
      _mm512_store_ps(out + d, sum);
    }
  }
};

}  // namespace

void attend_f32(const AttentionTask& task) { attend<F32Ops>(task); }
void attend_bf16(const AttentionTask& task) { attend<Bf16Ops>(task); }

}  // namespace tidemill::avx512

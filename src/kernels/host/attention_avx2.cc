// Attention with AVX2. Words of two bf16 become floats by a shift and a mask.
#include "kernels/host/attention_loop.h"
#include "kernels/host/unroll.h"
#include "kernels/host/vector_avx2.h"

namespace tidemill::avx2 {
namespace {

struct SoftmaxOps {
  static float exp_one(float x) { return exp256_one(x); }

  static float max(const float* scores) {
    __m256 max = _mm256_load_ps(scores);
    for (int i = 8; i < kBlockTokens; i += 8) max = _mm256_max_ps(max, _mm256_load_ps(scores + i));
    return max256(max);
  }

  // scores become exp(score - max), zero where masked; their sum.
  static float exponentials(float* scores, float max) {
    __m256 sum = _mm256_setzero_ps();
    for (int i = 0; i < kBlockTokens; i += 8) {
      const __m256 s = _mm256_load_ps(scores + i);
      const __m256 seen = _mm256_cmp_ps(s, _mm256_set1_ps(kMasked), _CMP_GT_OQ);
      const __m256 e = _mm256_and_ps(seen, exp256(_mm256_sub_ps(s, _mm256_set1_ps(max))));
      _mm256_store_ps(scores + i, e);
      sum = _mm256_add_ps(sum, e);
    }
    return sum256(sum);
  }
};

struct F32Ops : SoftmaxOps {
  // K: two halves of [head_dim][16 tokens].
  static void scores(const AttentionTask& task, const unsigned char* run, float* out) {
    const auto* q = static_cast<const float*>(task.q);
    const auto* keys = reinterpret_cast<const float*>(run);
    __m256 sums[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                      _mm256_setzero_ps()};
    for (int64_t d = 0; d < task.head_dim; ++d) {
      const __m256 x = _mm256_set1_ps(q[d]);
      TIDEMILL_UNROLL
      for (int part = 0; part < 4; ++part) {
        const float* row = keys + (part / 2 * task.head_dim + d) * 16 + part % 2 * 8;
        sums[part] = _mm256_fmadd_ps(x, _mm256_loadu_ps(row), sums[part]);
      }
    }
    TIDEMILL_UNROLL
    for (int part = 0; part < 4; ++part) {
      _mm256_store_ps(out + part * 8, _mm256_mul_ps(sums[part], _mm256_set1_ps(task.scale)));
    }
  }

  // V: [padded_dim / 16][32 tokens][16 dims].
  static void accumulate(const float* probabilities, const unsigned char* run, int64_t padded_dim,
                         float factor, float* out) {
    const auto* values = reinterpret_cast<const float*>(run);
    for (int64_t d = 0; d < padded_dim; d += 8) {
      __m256 sum = _mm256_mul_ps(_mm256_load_ps(out + d), _mm256_set1_ps(factor));
      const float* column = values + d / 16 * 16 * kBlockTokens + d % 16;
      for (int64_t t = 0; t < kBlockTokens; ++t) {
        sum = _mm256_fmadd_ps(_mm256_set1_ps(probabilities[t]), _mm256_loadu_ps(column + t * 16),
                              sum);
      }
      _mm256_store_ps(out + d, sum);
    }
  }
};

struct Bf16Ops : SoftmaxOps {
  // K: two halves of [head_dim / 2 pairs][16 tokens][2].
  static void scores(const AttentionTask& task, const unsigned char* run, float* out) {
    const auto* q = static_cast<const int32_t*>(task.q);
    const int64_t pairs = (task.head_dim + 1) / 2;
    __m256 sums[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                      _mm256_setzero_ps()};
    for (int64_t pair = 0; pair < pairs; ++pair) {
      const __m256i x = _mm256_set1_epi32(q[pair]);
      TIDEMILL_UNROLL
      for (int part = 0; part < 4; ++part) {
        const unsigned char* row = run + (part / 2 * pairs + pair) * 64 + part % 2 * 32;
        const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row));
        sums[part] = _mm256_fmadd_ps(even_of(x), even_of(words), sums[part]);
        sums[part] = _mm256_fmadd_ps(odd_of(x), odd_of(words), sums[part]);
      }
    }
    TIDEMILL_UNROLL
    for (int part = 0; part < 4; ++part) {
      _mm256_store_ps(out + part * 8, _mm256_mul_ps(sums[part], _mm256_set1_ps(task.scale)));
    }
  }

  // V: [padded_dim / 16][16 token pairs][16 dims][2].
  static void accumulate(const float* probabilities, const unsigned char* run, int64_t padded_dim,
                         float factor, float* out) {
    alignas(32) uint16_t rounded[kBlockTokens];
    for (int i = 0; i < kBlockTokens; i += 8) {
      _mm_store_si128(reinterpret_cast<__m128i*>(rounded + i),
                      to_bf16_256(_mm256_load_ps(probabilities + i)));
    }
    const auto* pairs = reinterpret_cast<const int32_t*>(rounded);
    for (int64_t d = 0; d < padded_dim; d += 8) {
      __m256 sum = _mm256_mul_ps(_mm256_load_ps(out + d), _mm256_set1_ps(factor));
      const unsigned char* column = run + d / 16 * 16 * kBlockTokens * 2 + d % 16 * 4;
      for (int64_t pair = 0; pair < kBlockTokens / 2; ++pair) {
        const __m256i x = _mm256_set1_epi32(pairs[pair]);
        const __m256i words =
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(column + pair * 64));
        sum = _mm256_fmadd_ps(even_of(x), even_of(words), sum);
        sum = _mm256_fmadd_ps(odd_of(x), odd_of(words), sum);
      }
      _mm256_store_ps(out + d, sum);
    }
  }
};

}  // namespace

void attend_f32(const AttentionTask& task) { attend<F32Ops>(task); }
void attend_bf16(const AttentionTask& task) { attend<Bf16Ops>(task); }

}  // namespace tidemill::avx2

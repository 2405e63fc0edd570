// Attention with AVX2. Words of two bf16 become floats by a shift and a mask.
#include "kernels/host/attention_loop.h"
#include "kernels/host/unroll.h"
#include "kernels/host/vector_avx2.h"

namespace tidemill::avx2 {
namespace {

struct SoftmaxOps {
  static constexpr int kHeadsAtOnce = 2;  // eight of the sixteen registers hold sums

  static float exp_one(float x) { return exp256_one(x); }

  static float max(const float* scores) {
    __m256 max = _mm256_load_ps(scores);
    for (int i = 8; i < kTokensPerBlock; i += 8) {
      max = _mm256_max_ps(max, _mm256_load_ps(scores + i));
    }
    return max256(max);
  }

  // scores become exp(score - max), zero where masked; their sum.
  static float exponentials(float* scores, float max) {
    __m256 sum = _mm256_setzero_ps();
    for (int i = 0; i < kTokensPerBlock; i += 8) {
      const __m256 s = _mm256_load_ps(scores + i);
      const __m256 seen = _mm256_cmp_ps(s, _mm256_set1_ps(kMasked), _CMP_GT_OQ);
      const __m256 e = _mm256_and_ps(seen, exp256(_mm256_sub_ps(s, _mm256_set1_ps(max))));
      _mm256_store_ps(scores + i, e);
      sum = _mm256_add_ps(sum, e);
    }
    return sum256(sum);
  }

  template <int kHeads>
  static void clear_sums(__m256 (&sums)[kHeads][4]) {
    TIDEMILL_UNROLL
    for (int i = 0; i < kHeads * 4; ++i) sums[i / 4][i % 4] = _mm256_setzero_ps();
  }

  // Four quarters of 8 sums for each head, times `scale`.
  template <int kHeads>
  static void store_scores(const __m256 (&sums)[kHeads][4], float scale, SoftmaxState* states) {
    TIDEMILL_UNROLL
    for (int i = 0; i < kHeads * 4; ++i) {
      _mm256_store_ps(states[i / 4].scores + i % 4 * 8,
                      _mm256_mul_ps(sums[i / 4][i % 4], _mm256_set1_ps(scale)));
    }
  }

  static __m256 scaled_out(const SoftmaxState& state, int64_t d) {
    return _mm256_mul_ps(_mm256_load_ps(state.out + d), _mm256_set1_ps(state.factor));
  }
};

struct F32Ops : SoftmaxOps {
  // K: two halves of [head_dim][16 tokens].
  template <int kHeads>
  static void scores(const AttentionTask& task, int64_t head, const unsigned char* run,
                     int64_t ahead, SoftmaxState* states) {
    const auto* q = static_cast<const float*>(task.q) + head * task.head_dim;
    __m256 sums[kHeads][4];
    clear_sums<kHeads>(sums);
    for (int64_t d = 0; d < task.head_dim; ++d) {
      TIDEMILL_UNROLL
      for (int part = 0; part < 4; ++part) {
        const unsigned char* keys = run + (part / 2 * task.head_dim + d) * 64 + part % 2 * 32;
        if (part % 2 == 0) prefetch(keys + ahead);
        const __m256 row = _mm256_loadu_ps(reinterpret_cast<const float*>(keys));
        TIDEMILL_UNROLL
        for (int h = 0; h < kHeads; ++h) {
          const __m256 x = _mm256_set1_ps(q[h * task.head_dim + d]);
          sums[h][part] = _mm256_fmadd_ps(x, row, sums[h][part]);
        }
      }
    }
    store_scores<kHeads>(sums, task.scale, states);
  }

  // V: [padded_dim / 16][32 tokens][16 dims].
  template <int kHeads>
  static void accumulate(SoftmaxState* states, const unsigned char* run, int64_t ahead,
                         int64_t padded_dim) {
    for (int64_t d = 0; d < padded_dim; d += 8) {
      const unsigned char* column = run + d / 16 * 16 * kTokensPerBlock * 4 + d % 16 * 4;
      __m256 sums[kHeads];
      TIDEMILL_UNROLL
      for (int h = 0; h < kHeads; ++h) sums[h] = scaled_out(states[h], d);
      for (int64_t t = 0; t < kTokensPerBlock; ++t) {
        prefetch(column + t * 64 + ahead);
        const __m256 values = _mm256_loadu_ps(reinterpret_cast<const float*>(column + t * 64));
        TIDEMILL_UNROLL
        for (int h = 0; h < kHeads; ++h) {
          sums[h] = _mm256_fmadd_ps(_mm256_set1_ps(states[h].scores[t]), values, sums[h]);
        }
      }
      TIDEMILL_UNROLL
      for (int h = 0; h < kHeads; ++h) _mm256_store_ps(states[h].out + d, sums[h]);
    }
  }
};

struct Bf16Ops : SoftmaxOps {
  // K: two halves of [head_dim / 2 pairs][16 tokens][2].
  template <int kHeads>
  static void scores(const AttentionTask& task, int64_t head, const unsigned char* run,
                     int64_t ahead, SoftmaxState* states) {
    const auto* q = static_cast<const uint16_t*>(task.q) + head * task.head_dim;
    const int64_t pairs = (task.head_dim + 1) / 2;
    __m256 sums[kHeads][4];
    clear_sums<kHeads>(sums);
    for (int64_t pair = 0; pair < pairs; ++pair) {
      TIDEMILL_UNROLL
      for (int part = 0; part < 4; ++part) {
        const unsigned char* keys = run + (part / 2 * pairs + pair) * 64 + part % 2 * 32;
        if (part % 2 == 0) prefetch(keys + ahead);
        const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys));
        TIDEMILL_UNROLL
        for (int h = 0; h < kHeads; ++h) {
          sums[h][part] = add_pair(sums[h][part], q + h * task.head_dim, pair, words);
        }
      }
    }
    store_scores<kHeads>(sums, task.scale, states);
  }

  // V: [padded_dim / 16][16 token pairs][16 dims][2].
  template <int kHeads>
  static void accumulate(SoftmaxState* states, const unsigned char* run, int64_t ahead,
                         int64_t padded_dim) {
    alignas(32) uint16_t rounded[kHeads][kTokensPerBlock];
    for (int h = 0; h < kHeads; ++h) {
      for (int i = 0; i < kTokensPerBlock; i += 8) {
        _mm_store_si128(reinterpret_cast<__m128i*>(rounded[h] + i),
                        to_bf16_256(_mm256_load_ps(states[h].scores + i)));
      }
    }
    for (int64_t d = 0; d < padded_dim; d += 8) {
      const unsigned char* column = run + d / 16 * 16 * kTokensPerBlock * 2 + d % 16 * 4;
      __m256 sums[kHeads];
      TIDEMILL_UNROLL
      for (int h = 0; h < kHeads; ++h) sums[h] = scaled_out(states[h], d);
      for (int64_t pair = 0; pair < kTokensPerBlock / 2; ++pair) {
        prefetch(column + pair * 64 + ahead);
        const __m256i words =
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(column + pair * 64));
        TIDEMILL_UNROLL
        for (int h = 0; h < kHeads; ++h) sums[h] = add_pair(sums[h], rounded[h], pair, words);
      }
      TIDEMILL_UNROLL
      for (int h = 0; h < kHeads; ++h) _mm256_store_ps(states[h].out + d, sums[h]);
    }
  }

 private:
  // The even product, then the odd one.
  static __m256 add_pair(__m256 sum, const uint16_t* x, int64_t pair, __m256i words) {
    const __m256i two = _mm256_set1_epi32(reinterpret_cast<const int32_t*>(x)[pair]);
    sum = _mm256_fmadd_ps(even_of(two), even_of(words), sum);
    return _mm256_fmadd_ps(odd_of(two), odd_of(words), sum);
  }
};

}  // namespace

void attend_f32(const AttentionTask& task) { attend<F32Ops>(task); }
void attend_bf16(const AttentionTask& task) { attend<Bf16Ops>(task); }

}  // namespace tidemill::avx2

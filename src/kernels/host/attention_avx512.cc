// Attention with AVX-512 and without its bf16 instructions: words of two bf16 become floats by a
// shift and a mask.
#include "kernels/host/attention_avx512_ops.h"
#include "kernels/host/unroll.h"

namespace tidemill::avx512 {
namespace {

struct F32Ops : SoftmaxOps512 {
  static constexpr int kHeadsAtOnce = 4;

  // K: two halves of [head_dim][16 tokens].
  template <int kHeads>
  static void scores(const AttentionTask& task, int64_t head, const unsigned char* run,
                     int64_t ahead, SoftmaxState* states) {
    const int64_t dim = task.head_dim;
    const auto* q = static_cast<const float*>(task.q) + head * dim;
    __m512 sums[kHeads][2];
    TIDEMILL_UNROLL
    for (int h = 0; h < kHeads; ++h) sums[h][0] = sums[h][1] = _mm512_setzero_ps();
    for (int64_t d = 0; d < dim; ++d) {
      const unsigned char* first = run + d * 64;
      const unsigned char* second = first + dim * 64;
      prefetch(first + ahead);
      prefetch(second + ahead);
      const __m512 first_keys = _mm512_loadu_ps(first);
      const __m512 second_keys = _mm512_loadu_ps(second);
      TIDEMILL_UNROLL
      for (int h = 0; h < kHeads; ++h) {
        const __m512 x = _mm512_set1_ps(q[h * dim + d]);
        sums[h][0] = _mm512_fmadd_ps(x, first_keys, sums[h][0]);
        sums[h][1] = _mm512_fmadd_ps(x, second_keys, sums[h][1]);
      }
    }
    store_scores<kHeads>(sums, task.scale, states);
  }

  // V: [padded_dim / 16][32 tokens][16 dims].
  template <int kHeads>
  static void accumulate(SoftmaxState* states, const unsigned char* run, int64_t ahead,
                         int64_t padded_dim) {
    for (int64_t d = 0; d < padded_dim; d += 16) {
      const unsigned char* column = run + d * kTokensPerBlock * 4;
      __m512 sums[kHeads];
      TIDEMILL_UNROLL
      for (int h = 0; h < kHeads; ++h) sums[h] = scaled_out(states[h], d);
      for (int64_t t = 0; t < kTokensPerBlock; ++t) {
        prefetch(column + t * 64 + ahead);
        const __m512 values = _mm512_loadu_ps(column + t * 64);
        TIDEMILL_UNROLL
        for (int h = 0; h < kHeads; ++h) {
          sums[h] = _mm512_fmadd_ps(_mm512_set1_ps(states[h].scores[t]), values, sums[h]);
        }
      }
      TIDEMILL_UNROLL
      for (int h = 0; h < kHeads; ++h) _mm512_store_ps(states[h].out + d, sums[h]);
    }
  }
};

__m512 even_of(__m512i words) { return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16)); }
__m512 odd_of(__m512i words) {
  return _mm512_castsi512_ps(
      _mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}

struct Bf16Ops : SoftmaxOps512 {
  static constexpr int kHeadsAtOnce = 4;

  // K: two halves of [head_dim / 2 pairs][16 tokens][2].
  template <int kHeads>
  static void scores(const AttentionTask& task, int64_t head, const unsigned char* run,
                     int64_t ahead, SoftmaxState* states) {
    const auto* q = static_cast<const uint16_t*>(task.q) + head * task.head_dim;
    const int64_t pairs = (task.head_dim + 1) / 2;
    __m512 sums[kHeads][2];
    TIDEMILL_UNROLL
    for (int h = 0; h < kHeads; ++h) sums[h][0] = sums[h][1] = _mm512_setzero_ps();
    for (int64_t pair = 0; pair < pairs; ++pair) {
      TIDEMILL_UNROLL
      for (int half = 0; half < 2; ++half) {
        const unsigned char* keys = run + (half * pairs + pair) * 64;
        prefetch(keys + ahead);
        const __m512i words = _mm512_loadu_si512(keys);
        TIDEMILL_UNROLL
        for (int h = 0; h < kHeads; ++h) {
          sums[h][half] = add_pair(sums[h][half], q + h * task.head_dim, pair, words);
        }
      }
    }
    store_scores<kHeads>(sums, task.scale, states);
  }

  // V: [padded_dim / 16][16 token pairs][16 dims][2].
  template <int kHeads>
  static void accumulate(SoftmaxState* states, const unsigned char* run, int64_t ahead,
                         int64_t padded_dim) {
    alignas(64) uint16_t rounded[kHeads][kTokensPerBlock];
    round_scores<kHeads>(states, rounded);
    for (int64_t d = 0; d < padded_dim; d += 16) {
      const unsigned char* column = run + d * kTokensPerBlock * 2;
      __m512 sums[kHeads];
      TIDEMILL_UNROLL
      for (int h = 0; h < kHeads; ++h) sums[h] = scaled_out(states[h], d);
      for (int64_t pair = 0; pair < kTokensPerBlock / 2; ++pair) {
        prefetch(column + pair * 64 + ahead);
        const __m512i words = _mm512_loadu_si512(column + pair * 64);
        TIDEMILL_UNROLL
        for (int h = 0; h < kHeads; ++h) sums[h] = add_pair(sums[h], rounded[h], pair, words);
      }
      TIDEMILL_UNROLL
      for (int h = 0; h < kHeads; ++h) _mm512_store_ps(states[h].out + d, sums[h]);
    }
  }

 private:
  // The even product, then the odd one.
  static __m512 add_pair(__m512 sum, const uint16_t* x, int64_t pair, __m512i words) {
    const __m512i two = _mm512_set1_epi32(reinterpret_cast<const int32_t*>(x)[pair]);
    sum = _mm512_fmadd_ps(even_of(two), even_of(words), sum);
    return _mm512_fmadd_ps(odd_of(two), odd_of(words), sum);
  }
};

}  // namespace

void attend_f32(const AttentionTask& task) { attend<F32Ops>(task); }
void attend_bf16(const AttentionTask& task) { attend<Bf16Ops>(task); }

}  // namespace tidemill::avx512

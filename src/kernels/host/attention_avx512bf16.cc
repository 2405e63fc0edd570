// Attention over a bf16 cache with VDPBF16PS: pairs of dims against a row of 16 keys, pairs of
// probabilities against a row of 16 dims.
#include "kernels/host/attention_avx512_ops.h"
#include "kernels/host/unroll.h"

namespace tidemill::avx512bf16 {
namespace {

struct Bf16Ops : SoftmaxOps512 {
  static constexpr int kHeadsAtOnce = 4;  // eight chains: VDPBF16PS takes some six cycles

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
      const unsigned char* first = run + pair * 64;
      const unsigned char* second = first + pairs * 64;
      prefetch(first + ahead);
      prefetch(second + ahead);
      const auto first_keys = (__m512bh)_mm512_loadu_si512(first);
      const auto second_keys = (__m512bh)_mm512_loadu_si512(second);
      TIDEMILL_UNROLL
      for (int h = 0; h < kHeads; ++h) {
        const __m512bh x = pair_of(q + h * task.head_dim, pair);
        sums[h][0] = _mm512_dpbf16_ps(sums[h][0], x, first_keys);
        sums[h][1] = _mm512_dpbf16_ps(sums[h][1], x, second_keys);
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
        const auto values = (__m512bh)_mm512_loadu_si512(column + pair * 64);
        TIDEMILL_UNROLL
        for (int h = 0; h < kHeads; ++h) {
          sums[h] = _mm512_dpbf16_ps(sums[h], pair_of(rounded[h], pair), values);
        }
      }
      TIDEMILL_UNROLL
      for (int h = 0; h < kHeads; ++h) _mm512_store_ps(states[h].out + d, sums[h]);
    }
  }

 private:
  static __m512bh pair_of(const uint16_t* words, int64_t pair) {
    return (__m512bh)_mm512_set1_epi32(reinterpret_cast<const int32_t*>(words)[pair]);
  }
};

}  // namespace

void attend_bf16(const AttentionTask& task) { attend<Bf16Ops>(task); }

}  // namespace tidemill::avx512bf16

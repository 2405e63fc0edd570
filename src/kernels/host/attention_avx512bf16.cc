// Attention over a bf16 cache with VDPBF16PS: pairs of dims against a row of 16 keys (or of 16
// queries), pairs of probabilities against a row of 16 dims.
#include "kernels/host/attention_avx512_ops.h"
#include "kernels/host/unroll.h"

namespace tidemill::avx512bf16 {
namespace {

const int32_t* pairs_of(const void* words) { return static_cast<const int32_t*>(words); }
__m512bh broadcast(int32_t pair) { return (__m512bh)_mm512_set1_epi32(pair); }
__m512bh load(const unsigned char* line) { return (__m512bh)_mm512_loadu_si512(line); }

struct TokenPairs {
  static constexpr int kSteps = kTokensPerBlock / 2;
  static __m512 add(__m512 sum, __m512i probabilities, __m512i values) {
    return _mm512_dpbf16_ps(sum, (__m512bh)probabilities, (__m512bh)values);
  }
};

struct Bf16Ops : SoftmaxOps512 {
  static constexpr int kRowsAtOnce = 4;  // eight chains: VDPBF16PS takes some six cycles
  static constexpr int64_t kMaxRowQueries = 10;
  static constexpr int64_t kPackedElementBytes = 2;
  struct Expansion {};
  static Block expand(const AttentionTask&, const Block& block, Expansion&) { return block; }

  // K: two halves of [head_dim / 2 pairs][16 tokens][2].
  template <int kRows>
  static void row_scores(const AttentionTask& task, const void* const* q, const unsigned char* run,
                         int64_t ahead, float (*scores)[kTokensPerBlock]) {
    const int64_t pairs = (task.head_dim + 1) / 2;
    __m512 sums[kRows][2];
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    for (int64_t pair = 0; pair < pairs; ++pair) {
      const unsigned char* first = run + pair * 64;
      const unsigned char* second = first + pairs * 64;
      prefetch(first + ahead);
      prefetch(second + ahead);
      const __m512bh first_keys = load(first);
      const __m512bh second_keys = load(second);
      TIDEMILL_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const __m512bh x = broadcast(pairs_of(q[r])[pair]);
        sums[r][0] = _mm512_dpbf16_ps(sums[r][0], x, first_keys);
        sums[r][1] = _mm512_dpbf16_ps(sums[r][1], x, second_keys);
      }
    }
    store_scores<kRows>(sums, task.scale, scores);
  }

  // V: [padded_dim / 16][16 token pairs][16 dims][2].
  template <int kRows>
  static void add_row_values(const AttentionTask& task, const unsigned char* run, int64_t ahead,
                             int64_t query, const float (*scores)[kTokensPerBlock],
                             QueryTile& tile) {
    alignas(64) uint16_t rounded[kRows][kTokensPerBlock];
    round_scores<kRows>(scores, rounded);
    add_row_columns<TokenPairs, kRows>(run, ahead, rounded, query, padded_head_dim(task.head_dim),
                                       tile);
  }

  // [pair][query][2]
  static void pack(const AttentionTask& task, const QueryTile& tile, void* packed) {
    const int64_t pairs = (task.head_dim + 1) / 2;
    auto* out = static_cast<int32_t*>(packed);
    const int32_t* q[kTile];
    for (int64_t i = 0; i < kTile; ++i) q[i] = pairs_of(tile.q[i < tile.count ? i : 0]);
    int64_t pair = 0;
    static_assert(kTile == 16);
    for (; pair + 16 <= pairs; pair += 16) {
      __m512i words[16];
      TIDEMILL_UNROLL_16
      for (int i = 0; i < 16; ++i) words[i] = _mm512_loadu_si512(q[i] + pair);
      transpose512(words);
      TIDEMILL_UNROLL_16
      for (int i = 0; i < 16; ++i) _mm512_store_si512(out + (pair + i) * kTile, words[i]);
    }
    for (; pair < pairs; ++pair) {
      for (int64_t i = 0; i < kTile; ++i) out[pair * kTile + i] = q[i][pair];
    }
  }

  static void tile_scores(const AttentionTask& task, const void* packed, const unsigned char* run,
                          int64_t ahead, float* scores) {
    const int64_t pairs = (task.head_dim + 1) / 2;
    for (int half = 0; half < 2; ++half) {
      const unsigned char* keys = run + half * pairs * 64;
      const auto* q = static_cast<const unsigned char*>(packed);
      __m512 sums[16];
      TIDEMILL_UNROLL_16
      for (int t = 0; t < 16; ++t) sums[t] = _mm512_setzero_ps();
      for (int64_t pair = 0; pair < pairs; ++pair, keys += 64, q += 64) {
        prefetch(keys + ahead);
        const __m512bh queries = load(q);
        TIDEMILL_UNROLL_16
        for (int t = 0; t < 16; ++t) {
          sums[t] = _mm512_dpbf16_ps(sums[t], queries, broadcast(pairs_of(keys)[t]));
        }
      }
      TIDEMILL_UNROLL_16
      for (int t = 0; t < 16; ++t) {
        _mm512_store_ps(scores + (half * 16 + t) * kTile,
                        _mm512_mul_ps(sums[t], _mm512_set1_ps(task.scale)));
      }
    }
  }

  // Probabilities are zero or normal numbers, never NaN: VCVTNE2PS2BF16 rounds them as to_bf16_512.
  static void add_tile_values(const AttentionTask& task, const unsigned char* run, int64_t ahead,
                              int64_t begin, int64_t end, float* scores, QueryTile& tile) {
    alignas(64) int32_t rounded[kTokensPerBlock / 2 * kTile];  // [pair][query][2]
    alignas(64) static constexpr uint16_t kInterleaved[32] = {
        0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i order = _mm512_load_si512(kInterleaved);
    for (int64_t pair = 0; pair < kTokensPerBlock / 2; ++pair) {
      const __m512 even = _mm512_load_ps(scores + 2 * pair * kTile);
      const __m512 odd = _mm512_load_ps(scores + (2 * pair + 1) * kTile);
      const auto words = (__m512i)_mm512_cvtne2ps_pbh(odd, even);
      _mm512_store_si512(rounded + pair * kTile, _mm512_permutexvar_epi16(order, words));
    }
    add_tile_columns<TokenPairs>(run, ahead, rounded, begin, end, padded_head_dim(task.head_dim),
                                 tile);
  }
};

}  // namespace

void attend_bf16(const AttentionTask& task) { attend<Bf16Ops>(task); }

}  // namespace tidemill::avx512bf16

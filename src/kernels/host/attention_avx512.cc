// Attention with AVX-512 and without its bf16 instructions: words of two bf16 become floats by a
// shift and a mask.
#include "kernels/host/attention_avx512_ops.h"
#include "kernels/host/unroll.h"

namespace tidemill::avx512 {
namespace {

__m512 broadcast(const float* value) { return _mm512_set1_ps(*value); }

struct Tokens {
  static constexpr int kSteps = kTokensPerBlock;
  static __m512 add(__m512 sum, __m512i probabilities, __m512i values) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(probabilities), _mm512_castsi512_ps(values), sum);
  }
};

// A tile over keys and values of f32.
struct F32Tile : SoftmaxOps512 {
  static constexpr int64_t kMaxRowQueries = 12;
  static constexpr int64_t kPackedElementBytes = 4;

  // K: two halves of [head_dim][16 tokens]; packed: [head_dim][query].
  static void tile_scores(const AttentionTask& task, const void* packed, const unsigned char* run,
                          int64_t ahead, float* scores) {
    for (int half = 0; half < 2; ++half) {
      const unsigned char* keys = run + half * task.head_dim * 64;
      const auto* q = static_cast<const float*>(packed);
      __m512 sums[16];
      TIDEMILL_UNROLL_16
      for (int t = 0; t < 16; ++t) sums[t] = _mm512_setzero_ps();
      for (int64_t d = 0; d < task.head_dim; ++d, keys += 64, q += kTile) {
        prefetch(keys + ahead);
        const __m512 queries = _mm512_load_ps(q);
        TIDEMILL_UNROLL_16
        for (int t = 0; t < 16; ++t) {
          const __m512 key = broadcast(reinterpret_cast<const float*>(keys) + t);
          sums[t] = _mm512_fmadd_ps(queries, key, sums[t]);
        }
      }
      TIDEMILL_UNROLL_16
      for (int t = 0; t < 16; ++t) {
        _mm512_store_ps(scores + (half * 16 + t) * kTile,
                        _mm512_mul_ps(sums[t], _mm512_set1_ps(task.scale)));
      }
    }
  }

  // V: [padded_dim / 16][32 tokens][16 dims].
  static void add_tile_values(const AttentionTask& task, const unsigned char* run, int64_t ahead,
                              int64_t begin, int64_t end, float* scores, QueryTile& tile) {
    add_tile_columns<Tokens>(run, ahead, scores, begin, end, padded_head_dim(task.head_dim), tile);
  }
};

struct F32Ops : F32Tile {
  static constexpr int kRowsAtOnce = 4;
  struct Expansion {};
  static Block expand(const AttentionTask&, const Block& block, Expansion&) { return block; }

  static void pack(const AttentionTask& task, const QueryTile& tile, void* packed) {
    auto* out = static_cast<float*>(packed);
    for (int64_t i = 0; i < kTile; ++i) {
      const auto* q = static_cast<const float*>(tile.q[i < tile.count ? i : 0]);
      for (int64_t d = 0; d < task.head_dim; ++d) out[d * kTile + i] = q[d];
    }
  }

  template <int kRows>
  static void row_scores(const AttentionTask& task, const void* const* q, const unsigned char* run,
                         int64_t ahead, float (*scores)[kTokensPerBlock]) {
    __m512 sums[kRows][2];
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    for (int64_t d = 0; d < task.head_dim; ++d) {
      const unsigned char* first = run + d * 64;
      const unsigned char* second = first + task.head_dim * 64;
      prefetch(first + ahead);
      prefetch(second + ahead);
      const __m512 first_keys = _mm512_loadu_ps(first);
      const __m512 second_keys = _mm512_loadu_ps(second);
      TIDEMILL_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const __m512 x = broadcast(static_cast<const float*>(q[r]) + d);
        sums[r][0] = _mm512_fmadd_ps(x, first_keys, sums[r][0]);
        sums[r][1] = _mm512_fmadd_ps(x, second_keys, sums[r][1]);
      }
    }
    store_scores<kRows>(sums, task.scale, scores);
  }

  template <int kRows>
  static void add_row_values(const AttentionTask& task, const unsigned char* run, int64_t ahead,
                             int64_t query, const float (*scores)[kTokensPerBlock],
                             QueryTile& tile) {
    add_row_columns<Tokens, kRows>(run, ahead, scores, query, padded_head_dim(task.head_dim), tile);
  }
};

__m512 even_of(__m512i words) { return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16)); }
__m512 odd_of(__m512i words) {
  return _mm512_castsi512_ps(
      _mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}

// The even product of a pair, then the odd one.
__m512 add_pair(__m512 sum, __m512i two, __m512i words) {
  sum = _mm512_fmadd_ps(even_of(two), even_of(words), sum);
  return _mm512_fmadd_ps(odd_of(two), odd_of(words), sum);
}

struct TokenPairs {
  static constexpr int kSteps = kTokensPerBlock / 2;
  static __m512 add(__m512 sum, __m512i probabilities, __m512i values) {
    return add_pair(sum, probabilities, values);
  }
};

// A row multiplies the even element of a pair, then the odd one: the order of f32. For a tile, a
// block is widened once, and the products are those of f32.
struct Bf16Ops : F32Tile {
  static constexpr int kRowsAtOnce = 4;
  struct Expansion {
    alignas(64) float keys[kTokensPerBlock * kMaxHeadDim];
    alignas(64) float values[kTokensPerBlock * kMaxHeadDim];
  };

  // K: two halves of [head_dim / 2 pairs][16 tokens][2]. V: [padded_dim / 16][16 pairs][16
  // dims][2].
  static Block expand(const AttentionTask& task, const Block& block, Expansion& to) {
    const int64_t pairs = (task.head_dim + 1) / 2;
    const bool odd = task.head_dim % 2 != 0;
    float* keys = to.keys;
    for (int64_t line = 0; line < 2 * pairs; ++line) {
      const unsigned char* from = block.keys + line * 64;
      prefetch(from + block.ahead);
      const __m512i words = _mm512_loadu_si512(from);
      _mm512_store_ps(keys, even_of(words));
      keys += 16;
      if (odd && line % pairs == pairs - 1) continue;  // the second element is padding
      _mm512_store_ps(keys, odd_of(words));
      keys += 16;
    }
    for (int64_t line = 0; line < padded_head_dim(task.head_dim); ++line) {
      const unsigned char* from = block.values + line * 64;
      prefetch(from + block.ahead);
      const __m512i words = _mm512_loadu_si512(from);
      _mm512_store_ps(to.values + line * 32, even_of(words));
      _mm512_store_ps(to.values + line * 32 + 16, odd_of(words));
    }
    return {block.first_position, reinterpret_cast<const unsigned char*>(to.keys),
            reinterpret_cast<const unsigned char*>(to.values), 0};
  }

  static void pack(const AttentionTask& task, const QueryTile& tile, void* packed) {
    pack_widened(task, tile, packed);
  }

  template <int kRows>
  static void row_scores(const AttentionTask& task, const void* const* q, const unsigned char* run,
                         int64_t ahead, float (*scores)[kTokensPerBlock]) {
    const int64_t pairs = (task.head_dim + 1) / 2;
    __m512 sums[kRows][2];
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    for (int64_t pair = 0; pair < pairs; ++pair) {
      TIDEMILL_UNROLL
      for (int half = 0; half < 2; ++half) {
        const unsigned char* keys = run + (half * pairs + pair) * 64;
        prefetch(keys + ahead);
        const __m512i words = _mm512_loadu_si512(keys);
        TIDEMILL_UNROLL
        for (int r = 0; r < kRows; ++r) {
          const __m512i two = _mm512_set1_epi32(static_cast<const int32_t*>(q[r])[pair]);
          sums[r][half] = add_pair(sums[r][half], two, words);
        }
      }
    }
    store_scores<kRows>(sums, task.scale, scores);
  }

  template <int kRows>
  static void add_row_values(const AttentionTask& task, const unsigned char* run, int64_t ahead,
                             int64_t query, const float (*scores)[kTokensPerBlock],
                             QueryTile& tile) {
    alignas(64) uint16_t rounded[kRows][kTokensPerBlock];
    round_scores<kRows>(scores, rounded);
    add_row_columns<TokenPairs, kRows>(run, ahead, rounded, query, padded_head_dim(task.head_dim),
                                       tile);
  }

  static void add_tile_values(const AttentionTask& task, const unsigned char* run, int64_t ahead,
                              int64_t begin, int64_t end, float* scores, QueryTile& tile) {
    for (int64_t t = 0; t < kTokensPerBlock; ++t) {
      const __m256i rounded = to_bf16_512(_mm512_load_ps(scores + t * kTile));
      _mm512_store_si512(scores + t * kTile, _mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded), 16));
    }
    F32Tile::add_tile_values(task, run, ahead, begin, end, scores, tile);
  }
};

}  // namespace

void attend_f32(const AttentionTask& task) { attend<F32Ops>(task); }
void attend_bf16(const AttentionTask& task) { attend<Bf16Ops>(task); }

void clear_state(void* state, int64_t padded_dim) {
  clear_values(static_cast<float*>(state), padded_dim);
}
void merge_state(const void* partition, int64_t padded_dim, void* total) {
  merge_values<SoftmaxOps512>(static_cast<const float*>(partition), padded_dim,
                              static_cast<float*>(total));
}
void finish_state(const void* total, int64_t padded_dim, float* out) {
  divide_values<SoftmaxOps512>(static_cast<const float*>(total), padded_dim, out);
}

}  // namespace tidemill::avx512

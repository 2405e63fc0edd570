// Attention with AVX2. Words of two bf16 become floats by a shift and a mask.
#include "kernels/host/attention_avx2_ops.h"
#include "kernels/host/bf16_pairs_avx2.h"
#include "kernels/host/unroll.h"

namespace tidemill::avx2 {
namespace {

// A tile over keys and values of f32: 16 queries are two vectors.
struct F32Tile : SoftmaxOps256 {
  static constexpr int64_t kMaxRowQueries = 10;
  static constexpr int64_t kPackedElementBytes = 4;

  // A tile's queries, which are floats, as [head_dim][query].
  static void pack_floats(const AttentionTask& task, const QueryTile& tile, void* packed) {
    auto* out = static_cast<float*>(packed);
    for (int64_t i = 0; i < kTile; ++i) {
      const auto* q = static_cast<const float*>(tile.q[i < tile.count ? i : 0]);
      for (int64_t d = 0; d < task.head_dim; ++d) out[d * kTile + i] = q[d];
    }
  }

  // K: two halves of [head_dim][16 tokens]; packed: [head_dim][query].
  static void tile_scores(const AttentionTask& task, const void* packed, const unsigned char* run,
                          int64_t ahead, float* scores) {
    for (int64_t t = 0; t < kTokensPerBlock; t += 4) {
      const unsigned char* keys = run + t / 16 * task.head_dim * 64 + t % 16 * 4;
      const auto* q = static_cast<const float*>(packed);
      __m256 sums[4][2];
      TIDEMILL_UNROLL
      for (int i = 0; i < 4; ++i) sums[i][0] = sums[i][1] = _mm256_setzero_ps();
      for (int64_t d = 0; d < task.head_dim; ++d, keys += 64, q += kTile) {
        if (t % 16 == 0) prefetch(keys + ahead);
        const __m256 low = _mm256_load_ps(q);
        const __m256 high = _mm256_load_ps(q + 8);
        TIDEMILL_UNROLL
        for (int i = 0; i < 4; ++i) {
          const __m256 key = _mm256_set1_ps(reinterpret_cast<const float*>(keys)[i]);
          sums[i][0] = _mm256_fmadd_ps(low, key, sums[i][0]);
          sums[i][1] = _mm256_fmadd_ps(high, key, sums[i][1]);
        }
      }
      TIDEMILL_UNROLL
      for (int i = 0; i < 8; ++i) {
        _mm256_store_ps(scores + (t + i / 2) * kTile + i % 2 * 8,
                        _mm256_mul_ps(sums[i / 2][i % 2], _mm256_set1_ps(task.scale)));
      }
    }
  }

  // V: [padded_dim / 16][32 tokens][16 dims].
  static void add_tile_values(const AttentionTask& task, const unsigned char* run, int64_t ahead,
                              int64_t begin, int64_t end, float* scores, QueryTile& tile) {
    for (int64_t d = 0; d < padded_head_dim(task.head_dim); d += 16) {
      const unsigned char* column = run + d * kTokensPerBlock * 4;
      int64_t query = begin;
      for (; query + 4 <= end; query += 4) {
        add_column<4>(column, query == begin ? ahead : 0, scores, query, d, tile);
      }
      for (; query < end; ++query) {
        add_column<1>(column, query == begin ? ahead : 0, scores, query, d, tile);
      }
    }
  }

 private:
  template <int kQueries>
  static void add_column(const unsigned char* column, int64_t ahead, const float* probabilities,
                         int64_t query, int64_t d, QueryTile& tile) {
    __m256 sums[kQueries][2];
    TIDEMILL_UNROLL
    for (int i = 0; i < kQueries * 2; ++i) {
      sums[i / 2][i % 2] = scaled_values(tile, query + i / 2, d + i % 2 * 8);
    }
    for (int64_t t = 0; t < kTokensPerBlock; ++t) {
      const auto* line = reinterpret_cast<const float*>(column + t * 64);
      prefetch(column + t * 64 + ahead);
      const __m256 low = _mm256_loadu_ps(line);
      const __m256 high = _mm256_loadu_ps(line + 8);
      TIDEMILL_UNROLL
      for (int q = 0; q < kQueries; ++q) {
        const __m256 x = _mm256_set1_ps(probabilities[t * kTile + query + q]);
        sums[q][0] = _mm256_fmadd_ps(x, low, sums[q][0]);
        sums[q][1] = _mm256_fmadd_ps(x, high, sums[q][1]);
      }
    }
    TIDEMILL_UNROLL
    for (int i = 0; i < kQueries * 2; ++i) {
      _mm256_store_ps(tile.values(query + i / 2) + d + i % 2 * 8, sums[i / 2][i % 2]);
    }
  }
};

// At most two queries at once: eight of the sixteen registers hold sums.
struct F32Ops : F32Tile {
  static constexpr int kRowsAtOnce = 2;
  struct Expansion {};
  static Block expand(const AttentionTask&, const Block& block, Expansion&) { return block; }

  static void pack(const AttentionTask& task, const QueryTile& tile, void* packed) {
    pack_floats(task, tile, packed);
  }

  template <int kRows>
  static void row_scores(const AttentionTask& task, const void* const* q, const unsigned char* run,
                         int64_t ahead, float (*scores)[kTokensPerBlock]) {
    __m256 sums[kRows][4];
    clear_sums<kRows>(sums);
    for (int64_t d = 0; d < task.head_dim; ++d) {
      TIDEMILL_UNROLL
      for (int part = 0; part < 4; ++part) {
        const unsigned char* keys = run + (part / 2 * task.head_dim + d) * 64 + part % 2 * 32;
        if (part % 2 == 0) prefetch(keys + ahead);
        const __m256 row = _mm256_loadu_ps(reinterpret_cast<const float*>(keys));
        TIDEMILL_UNROLL
        for (int r = 0; r < kRows; ++r) {
          const __m256 x = _mm256_set1_ps(static_cast<const float*>(q[r])[d]);
          sums[r][part] = _mm256_fmadd_ps(x, row, sums[r][part]);
        }
      }
    }
    store_scores<kRows>(sums, task.scale, scores);
  }

  template <int kRows>
  static void add_row_values(const AttentionTask& task, const unsigned char* run, int64_t ahead,
                             int64_t query, const float (*scores)[kTokensPerBlock],
                             QueryTile& tile) {
    for (int64_t d = 0; d < padded_head_dim(task.head_dim); d += 16) {
      const unsigned char* column = run + d * kTokensPerBlock * 4;
      __m256 sums[kRows * 2];
      TIDEMILL_UNROLL
      for (int i = 0; i < kRows * 2; ++i) {
        sums[i] = scaled_values(tile, query + i / 2, d + i % 2 * 8);
      }
      for (int64_t t = 0; t < kTokensPerBlock; ++t) {
        prefetch(column + t * 64 + ahead);
        const auto* line = reinterpret_cast<const float*>(column + t * 64);
        TIDEMILL_UNROLL
        for (int i = 0; i < kRows * 2; ++i) {
          sums[i] = _mm256_fmadd_ps(_mm256_set1_ps(scores[i / 2][t]),
                                    _mm256_loadu_ps(line + i % 2 * 8), sums[i]);
        }
      }
      TIDEMILL_UNROLL
      for (int i = 0; i < kRows * 2; ++i) {
        _mm256_store_ps(tile.values(query + i / 2) + d + i % 2 * 8, sums[i]);
      }
    }
  }
};

// Queries are floats (attend_bf16 makes them so). A row multiplies the even element of a pair, then
// the odd one: the order of f32. For a tile, a block is widened once, and the products are those of
// f32.
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
      widen(block.keys + line * 64, block.ahead, keys);
      keys += odd && line % pairs == pairs - 1 ? 16 : 32;  // the second element is padding
    }
    for (int64_t line = 0; line < padded_head_dim(task.head_dim); ++line) {
      widen(block.values + line * 64, block.ahead, to.values + line * 32);
    }
    return {block.first_position, reinterpret_cast<const unsigned char*>(to.keys),
            reinterpret_cast<const unsigned char*>(to.values), 0};
  }

  static void pack(const AttentionTask& task, const QueryTile& tile, void* packed) {
    pack_floats(task, tile, packed);
  }

  template <int kRows>
  static void row_scores(const AttentionTask& task, const void* const* q, const unsigned char* run,
                         int64_t ahead, float (*scores)[kTokensPerBlock]) {
    const int64_t pairs = (task.head_dim + 1) / 2;
    const float* x[kRows];
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) x[r] = static_cast<const float*>(q[r]);
    constexpr int kHalves = kRunsAtOnce<kRows>;
    for (int first = 0; first < 2; first += kHalves) {
      __m256 sums[kHalves][kRows][2];
      TIDEMILL_UNROLL
      for (auto& half : sums) {
        TIDEMILL_UNROLL
        for (int r = 0; r < kRows; ++r) half[r][0] = half[r][1] = _mm256_setzero_ps();
      }
      const int64_t line = first * pairs;
      add_runs(x, pairs, run + line * 64, pairs * 64,
               {run + ahead + line * asked_bytes<kRows>(task), asked_bytes<kRows>(task)}, sums);
      const __m256 scale = _mm256_set1_ps(task.scale);
      TIDEMILL_UNROLL
      for (int half = 0; half < kHalves; ++half) {
        TIDEMILL_UNROLL
        for (int r = 0; r < kRows; ++r) {
          float* out = scores[r] + (first + half) * 16;
          _mm256_store_ps(out, _mm256_mul_ps(sums[half][r][0], scale));
          _mm256_store_ps(out + 8, _mm256_mul_ps(sums[half][r][1], scale));
        }
      }
    }
  }

  template <int kRows>
  static void add_row_values(const AttentionTask& task, const unsigned char* run, int64_t ahead,
                             int64_t query, const float (*scores)[kTokensPerBlock],
                             QueryTile& tile) {
    alignas(32) float rounded[kRows][kTokensPerBlock];
    const float* x[kRows];
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      for (int i = 0; i < kTokensPerBlock; i += 8) {
        _mm256_store_ps(rounded[r] + i, round_to_bf16(_mm256_load_ps(scores[r] + i)));
      }
      x[r] = rounded[r];
    }
    const int64_t padded_dim = padded_head_dim(task.head_dim);
    constexpr int kColumns = kRows == 1 ? 1 : kRunsAtOnce<kRows>;  // one waits for memory alone
    const Asked asked = {run + ahead, asked_bytes<kRows>(task)};
    int64_t d = 0;
    for (; d + 16 * kColumns <= padded_dim; d += 16 * kColumns) {
      add_columns<kRows, kColumns>(x, run, asked, query, d, tile);
    }
    if (kColumns > 1 && d < padded_dim) add_columns<kRows, 1>(x, run, asked, query, d, tile);
  }

  static void add_tile_values(const AttentionTask& task, const unsigned char* run, int64_t ahead,
                              int64_t begin, int64_t end, float* scores, QueryTile& tile) {
    for (int64_t i = 0; i < kTokensPerBlock * kTile; i += 8) {
      _mm256_store_ps(scores + i, round_to_bf16(_mm256_load_ps(scores + i)));
    }
    F32Tile::add_tile_values(task, run, ahead, begin, end, scores, tile);
  }

 private:
  // A line of 16 pairs: their 16 even elements, then the odd ones.
  static void widen(const unsigned char* from, int64_t ahead, float* to) {
    prefetch(from + ahead);
    TIDEMILL_UNROLL
    for (int half = 0; half < 2; ++half) {
      const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + half * 32));
      _mm256_store_ps(to + half * 8, even_of(words));
      _mm256_store_ps(to + 16 + half * 8, odd_of(words));
    }
  }

  static __m256 round_to_bf16(__m256 x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(to_bf16_256(x)), 16));
  }

  // Runs of lines that rows meet together: as many sums as hide the latency of an addition, and
  // fit the registers.
  template <int kRows>
  static constexpr int kRunsAtOnce = kRows < 4 ? 2 : 1;

  // What is behind a block is asked for in the order of memory, in whatever order the block's own
  // lines are met: else an EPYC (Zen 3) brings less.
  struct Asked {
    const unsigned char* at;
    int64_t bytes;  // from wish to wish: a line, or half of one
  };
  // One query reads keys as fast as they come. Of a large head it asks for the first half of keys
  // and of values, each line twice; what is behind comes by itself, and an EPYC (Zen 3) brings a
  // tenth more.
  template <int kRows>
  static int64_t asked_bytes(const AttentionTask& task) {
    return kRows == 1 && task.head_dim >= 128 ? 32 : 64;
  }

  // sums[i][r] += x[r] times the lines of run i, pair by pair.
  template <int kRows, int kRuns>
  [[gnu::always_inline]] static inline void add_runs(const float* const (&x)[kRows], int64_t pairs,
                                                     const unsigned char* lines, int64_t to_next,
                                                     Asked asked, __m256 (&sums)[kRuns][kRows][2]) {
    const __m256i upper = _mm256_set1_epi32(static_cast<int>(kUpperHalf));
    const float* at[kRows];
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) at[r] = x[r];
    for (int64_t pair = 0; pair < pairs; ++pair, lines += 64) {
      TIDEMILL_UNROLL
      for (int run = 0; run < kRuns; ++run, asked.at += asked.bytes) {
        prefetch(asked.at);
        add_pairs_of_line<kRows>(lines + run * to_next, at, upper, sums[run]);
      }
      TIDEMILL_UNROLL
      for (int r = 0; r < kRows; ++r) at[r] += 2;
    }
  }

  // Of kColumns times 16 dims from `d` on.
  template <int kRows, int kColumns>
  static void add_columns(const float* const (&x)[kRows], const unsigned char* run, Asked asked,
                          int64_t query, int64_t d, QueryTile& tile) {
    __m256 sums[kColumns][kRows][2];
    TIDEMILL_UNROLL
    for (int column = 0; column < kColumns; ++column) {
      TIDEMILL_UNROLL
      for (int r = 0; r < kRows; ++r) {
        sums[column][r][0] = scaled_values(tile, query + r, d + column * 16);
        sums[column][r][1] = scaled_values(tile, query + r, d + column * 16 + 8);
      }
    }
    const int64_t line = d * kTokensPerBlock * 2 / 64;
    asked.at += line * asked.bytes;
    add_runs(x, kTokensPerBlock / 2, run + line * 64, kTokensPerBlock * 32, asked, sums);
    TIDEMILL_UNROLL
    for (int column = 0; column < kColumns; ++column) {
      TIDEMILL_UNROLL
      for (int r = 0; r < kRows; ++r) {
        float* values = tile.values(query + r) + d + column * 16;
        _mm256_store_ps(values, sums[column][r][0]);
        _mm256_store_ps(values + 8, sums[column][r][1]);
      }
    }
  }
};

// Padded to a pair with zero.
void widen_row(const uint16_t* in, int64_t count, float* out) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i));
    _mm256_store_ps(out + i, even_of(_mm256_cvtepu16_epi32(bits)));
  }
  for (; i < count; ++i) reinterpret_cast<uint32_t*>(out)[i] = static_cast<uint32_t>(in[i]) << 16;
  out[count] = 0.0f;
}

}  // namespace

void attend_f32(const AttentionTask& task) { attend<F32Ops>(task); }
// Queries meet every block: they are widened once.
void attend_bf16(const AttentionTask& task) {
  alignas(64) float widened[kTaskQueries * (kMaxHeadDim + 16)];
  const void* q[kTaskQueries];
  const int64_t stride = padded_head_dim(task.head_dim) + 16;
  for (int64_t i = 0; i < task.num_queries; ++i) {
    float* to = widened + i * stride;
    widen_row(static_cast<const uint16_t*>(task.q[i]), task.head_dim, to);
    q[i] = to;
  }
  AttentionTask of_floats = task;
  of_floats.q = q;
  attend<Bf16Ops>(of_floats);
}

void clear_state(void* state, int64_t padded_dim) {
  clear_values(static_cast<float*>(state), padded_dim);
}
void merge_state(const void* partition, int64_t padded_dim, void* total) {
  merge_values<SoftmaxOps256>(static_cast<const float*>(partition), padded_dim,
                              static_cast<float*>(total));
}
void finish_state(const void* total, int64_t padded_dim, float* out) {
  divide_values<SoftmaxOps256>(static_cast<const float*>(total), padded_dim, out);
}

}  // namespace tidemill::avx2

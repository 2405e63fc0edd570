// Attention over keys and values of int8 on tiles, for many queries; few of them stay with the rows
// of the folder int8_cache. Both are exact up to the same floats, which stand in the same order: a
// query has the bits that it has with AVX-512 alone.
//
// Queries and weights are integers of 16 bits (attention_rows.h), here two tiles of bytes, the high
// and the low ones. A tile of keys is 64 dims of 16 tokens as they lie in their block, one of
// values 32 tokens of 16 dims.
//
// In an unnamed namespace, as attention_loop.h of the folder above explains.
#pragma once

#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/amx/tile_blocks.h"
#include "kernels/host/attention_avx512_ops.h"
#include "kernels/host/attention_vectors_avx512.h"
#include "kernels/host/int8_cache/attention_rows.h"
#include "kernels/host/unroll.h"

namespace tidemill {
namespace {

constexpr int64_t kDimsPerTile = 64;  // of queries and keys

// Tiles of queries that walk a task's blocks together: of more, what they keep leaves L1.
constexpr int64_t kTilesAtOnce = 2;

// Tiles of queries walk a block in steps, so that what one tile's step stores is loaded after the
// other's: the scores of both, the weights of both, then values, a column of 16 dims at a time.
template <typename Vector, typename Tiles>
class IntegerTileWalk {
 public:
  // Of heads of whole tiles. `queries` are rounded already.
  IntegerTileWalk(const AttentionTask& task, const IntegerQueries& queries)
      : task_(task), queries_(queries), num_key_tiles_(task.head_dim / kDimsPerTile) {}

  // Tiles of queries that attend to a block: which of the task's, and which of their queries.
  struct Walkers {
    int64_t tiles[kTaskTiles];
    Active active[kTaskTiles];
    int64_t count = 0;
  };

  // Adds a block to the states of those. A block ahead is asked for by the first of them.
  void add(const IntegerBlock& at, const Walkers& walkers, QueryTile* tiles) {
    configure();
    for (int64_t i = 0; i < walkers.count; ++i) {
      pack(walkers.tiles[i]);
      multiply_keys(at.block.keys, i == 0 ? at.block.ahead : 0, walkers.tiles[i]);
    }
    for (int64_t i = 0; i < walkers.count; ++i) {
      const int64_t t = walkers.tiles[i];
      walkers.active[i].masked ? weigh<true>(at, walkers.active[i], t, tiles[t])
                               : weigh<false>(at, walkers.active[i], t, tiles[t]);
    }
    add_values(at.block, walkers, tiles);
  }

 private:
  // Which tile is what.
  static constexpr int kSumTiles = 4;
  static constexpr int kQueriesTile = 4, kKeysTile = 5, kWeightsTile = 6, kValuesTile = 7;
  static constexpr int64_t kSumInts = kTileBytes / 4;            // of a tile of sums
  static constexpr int64_t kWeightStride = 2 * kTokensPerBlock;  // high and low bytes

  void configure() {
    TileShapes shapes{};
    shapes.palette = 1;
    for (int tile = 0; tile < kNumTiles; ++tile) set_shape(shapes, tile, kTile, 64);
    set_shape(shapes, kWeightsTile, kTile, kTokensPerBlock);
    set_shape(shapes, kValuesTile, kBlockQuads, 64);
    tiles_.configure(shapes);
  }

  // Of a tile of queries [high, low][64 dims][query][dim]. Rows without a query are another's.
  void pack(int64_t t) {
    if (is_packed_[t]) return;
    is_packed_[t] = true;
    // Words of four dims stand in the order of attention_rows.h: first, third, second, fourth.
    const __m512i in_order =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
    for (int64_t i = 0; i < kTile; ++i) {
      const int64_t query = t * kTile + i < task_.num_queries ? t * kTile + i : t * kTile;
      for (int64_t d = 0; d < task_.head_dim; d += 32) {
        const __m512i words =
            _mm512_shuffle_epi8(_mm512_load_si512(queries_.pairs[query] + d / 2), in_order);
        const __m512i high = _mm512_srai_epi16(_mm512_add_epi16(words, _mm512_set1_epi16(128)), 8);
        unsigned char* const to =
            packed_of(t) + d / kDimsPerTile * kTileBytes + i * 64 + d % kDimsPerTile;
        store_half(_mm512_cvtepi16_epi8(high), to);
        store_half(_mm512_cvtepi16_epi8(words), to + head_bytes());
      }
    }
  }
  static void store_half(__m256i bytes, unsigned char* to) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(to), bytes);
  }

  // Sums of high and of low bytes, for each half of the block's tokens: [query][16 tokens].
  void multiply_keys(const unsigned char* keys, int64_t ahead, int64_t t) {
    zero_sums();
    multiply_half<0>(keys, ahead, t);
    multiply_half<1>(keys + num_key_tiles_ * kTileBytes, ahead, t);
    prefetch(keys + 2 * num_key_tiles_ * kTileBytes + ahead);  // scales
    store_sums(scores_[t]);
  }

  template <int kHalf>
  void multiply_half(const unsigned char* keys, int64_t ahead, int64_t t) {
    for (int64_t k = 0; k < num_key_tiles_; ++k, keys += kTileBytes) {
      const unsigned char* const queries = packed_of(t) + k * kTileBytes;
      tiles_.template load<kQueriesTile>(queries, 64);
      tiles_.template load<kKeysTile>(keys, 64);
      tiles_.template dot_ss<2 * kHalf, kQueriesTile, kKeysTile>();
      tiles_.template load<kQueriesTile>(queries + head_bytes(), 64);
      tiles_.template dot_ss<2 * kHalf + 1, kQueriesTile, kKeysTile>();
      tiles_.template zero<kQueriesTile>();
      tiles_.template zero<kKeysTile>();
      fetch_lines(keys, kTileHeight, ahead);
    }
  }

  [[gnu::always_inline]] static void fetch_lines(const unsigned char* from, int64_t count,
                                                 int64_t ahead) {
    if (ahead == 0) return;
    for (int64_t line = 0; line < count; ++line) prefetch(from + line * 64 + ahead);
  }

  void zero_sums() {
    each<0, kSumTiles>([&](auto sum) { tiles_.template zero<sum.value>(); });
  }
  void store_sums(int32_t* to) {
    each<0, kSumTiles>(
        [&](auto sum) { tiles_.template store<sum.value>(to + sum.value * kSumInts, 64); });
  }

  // What those of high and low bytes come to, of 16 tokens or dims.
  static __m512i total_of(const int32_t* sums, int64_t query) {
    const __m512i high = _mm512_load_si512(sums + query * 16);
    return _mm512_add_epi32(_mm512_slli_epi32(high, 8),
                            _mm512_load_si512(sums + kSumInts + query * 16));
  }

  // Sums become scores, maxima, and integers for the values.
  template <bool kMasks>
  void weigh(const IntegerBlock& at, const Active& active, int64_t t, QueryTile& tile) {
    const float* const factors = queries_.factors + t * kTile;
    const unsigned char* const scales = at.block.keys + 2 * num_key_tiles_ * kTileBytes;
    const __m512 key_scale[] = {Vector::load_scales(scales), Vector::load_scales(scales + 32)};
    alignas(64) float scores[kTile][kTokensPerBlock];
    __m512 of_query[kTile];
    TIDEMILL_UNROLL_16
    for (int i = 0; i < kTile; ++i) {
      TIDEMILL_UNROLL
      for (int half = 0; half < 2; ++half) {
        const __m512 factor = _mm512_mul_ps(key_scale[half], _mm512_set1_ps(factors[i]));
        __m512 score = _mm512_mul_ps(
            _mm512_cvtepi32_ps(total_of(scores_[t] + 2 * half * kSumInts, i)), factor);
        if constexpr (kMasks) {
          score = masked_to(
              kMasked, outside(at.block.first_position + half * 16, tile.first[i], tile.last[i]),
              score);
        }
        _mm512_store_ps(scores[i] + half * 16, score);
        of_query[i] = half == 0 ? score : _mm512_max_ps(of_query[i], score);
      }
    }
    const __m512 old_max = _mm512_load_ps(tile.max);
    const __m512 max = _mm512_max_ps(max_of_each(of_query), old_max);
    _mm512_store_ps(tile.max, max);
    const __m512 factor = exp512(_mm512_sub_ps(old_max, max));
    _mm512_store_ps(tile.factor, factor);
    const __m512 value_scale[] = {Vector::load(at.scales.of_token),
                                  Vector::load(at.scales.of_token + 16)};
    const __m512 common[] = {_mm512_mul_ps(value_scale[0], _mm512_set1_ps(at.unit.inverse)),
                             _mm512_mul_ps(value_scale[1], _mm512_set1_ps(at.unit.inverse))};
    TIDEMILL_UNROLL_16
    for (int i = 0; i < kTile; ++i) {
      WeightUnit unit = at.unit;
      if constexpr (kMasks) {
        const bool wanted = i >= active.begin && i < active.end;
        unit = unit_for<Vector>(at, wanted, tile, i);
      }
      units_[t][i] = unit.unit;
      __m512i weights[2];
      TIDEMILL_UNROLL
      for (int half = 0; half < 2; ++half) {
        const __m512 e = SoftmaxOps512::template exponential<kMasks>(
            _mm512_load_ps(scores[i] + half * 16), _mm512_set1_ps(tile.max[i]));
        of_query[i] = half == 0 ? e : _mm512_add_ps(of_query[i], e);
        const __m512 scaled =
            kMasks ? _mm512_mul_ps(value_scale[half], _mm512_set1_ps(unit.inverse)) : common[half];
        weights[half] = _mm512_cvtps_epi32(_mm512_mul_ps(e, scaled));
      }
      _mm512_store_si512(weights_[t] + i * kWeightStride, high_and_low(weights[0], weights[1]));
    }
    const __m512 sums =
        reduce_each512(of_query, [](__m512 a, __m512 b) { return _mm512_add_ps(a, b); });
    const __m512 old_sum = _mm512_mul_ps(_mm512_load_ps(tile.sum), factor);
    _mm512_store_ps(tile.sum, _mm512_add_ps(old_sum, sums));
  }
  // Of 32 integers of 16 bits the high bytes, then the low ones. What is none counts as zero.
  static __m512i high_and_low(__m512i first, __m512i second) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i words = _mm512_packus_epi32(first, second);
    const __m512i bytes = _mm512_packus_epi16(_mm512_srli_epi16(words, 8),
                                              _mm512_and_si512(words, _mm512_set1_epi16(0xff)));
    return _mm512_permutexvar_epi32(order, bytes);
  }

  // Weights times values, a column of 16 dims at a time; those of the column before are added to
  // the states meanwhile.
  void add_values(const Block& block, const Walkers& walkers, QueryTile* tiles) {
    Column before;
    for (int64_t i = 0; i < walkers.count; ++i) {
      Column column{.active = &walkers.active[i],
                    .tile = &tiles[walkers.tiles[i]],
                    .units = units_[walkers.tiles[i]],
                    .dim = 0};
      const unsigned char* const weights = weights_[walkers.tiles[i]];
      const unsigned char* values = block.values;
      const int64_t ahead = i == 0 ? block.ahead : 0;
      for (; column.dim < task_.head_dim; column.dim += 32) {
        multiply_values<0>(values, weights, ahead);
        if (before.active != nullptr) add_sums<1>(before);
        before = column;
        multiply_values<1>(values + kColumnBytes, weights, ahead);
        add_sums<0>(before);
        before.dim += 16;
        values += 2 * kColumnBytes;
      }
    }
    prefetch(block.values + task_.head_dim * kTokensPerBlock + block.ahead);  // scales
    if (before.active != nullptr) add_sums<1>(before);
  }

  struct Column {
    const Active* active = nullptr;
    QueryTile* tile = nullptr;
    const float* units = nullptr;
    int64_t dim = 0;
  };

  template <int kTurn>
  void multiply_values(const unsigned char* values, const unsigned char* weights, int64_t ahead) {
    constexpr int kSum = 2 * kTurn;
    tiles_.template zero<kSum>();
    tiles_.template zero<kSum + 1>();
    tiles_.template load<kWeightsTile>(weights, kWeightStride);
    tiles_.template load<kValuesTile>(values, 64);
    tiles_.template dot_us<kSum, kWeightsTile, kValuesTile>();
    tiles_.template load<kWeightsTile>(weights + kTokensPerBlock, kWeightStride);
    tiles_.template dot_us<kSum + 1, kWeightsTile, kValuesTile>();
    tiles_.template zero<kWeightsTile>();
    tiles_.template zero<kValuesTile>();
    fetch_lines(values, kBlockQuads, ahead);
    int32_t* const to = value_sums_[kTurn];
    tiles_.template store<kSum>(to, 64);
    tiles_.template store<kSum + 1>(to + kSumInts, 64);
  }

  template <int kTurn>
  void add_sums(const Column& column) {
    QueryTile& tile = *column.tile;
    for (int64_t i = column.active->begin; i < column.active->end; ++i) {
      add_to_values<Vector>(total_of(value_sums_[kTurn], i), column.units[i], tile.factor[i],
                            tile.values(i) + column.dim);
    }
  }

  static constexpr int64_t kColumnBytes = kBlockQuads * 64;
  int64_t head_bytes() const { return kTile * task_.head_dim; }
  unsigned char* packed_of(int64_t t) { return packed_ + 2 * t * head_bytes(); }

  const AttentionTask& task_;
  const IntegerQueries& queries_;
  const int64_t num_key_tiles_;  // of a block's half
  Tiles tiles_;
  bool is_packed_[kTaskTiles] = {};
  float units_[kTaskTiles][kTile];
  alignas(64) unsigned char packed_[2 * kTaskQueries * kMaxHeadDim];
  alignas(64) int32_t scores_[kTaskTiles][kSumTiles * kSumInts];
  alignas(64) unsigned char weights_[kTaskTiles][kTile * kWeightStride];
  alignas(64) int32_t value_sums_[2][2 * kSumInts];
};

// head_dim: a multiple of kDimsPerTile.
template <typename Vector, typename Tiles>
void attend_integers_on_tiles(const AttentionTask& task) {
  const int64_t num_tiles = (task.num_queries + kTile - 1) / kTile;
  const int64_t values_bytes = padded_head_dim(task.head_dim) * kTokensPerBlock;
  QueryTile tiles[kTaskTiles];
  IntegerQueries queries;
  round_queries<Vector>(task, queries);
  for (int64_t t = 0; t < num_tiles; ++t) load_tile(task, t * kTile, tiles[t]);
  using Walk = IntegerTileWalk<Vector, Tiles>;
  Walk walk(task, queries);
  for (int64_t begin = 0; begin < num_tiles; begin += kTilesAtOnce) {
    const int64_t end = begin + kTilesAtOnce < num_tiles ? begin + kTilesAtOnce : num_tiles;
    for (int64_t index = task.begin; index < task.end; ++index) {
      IntegerBlock at{.block = block_at(task, index, kBlocksAhead)};
      if (begin > 0) at.block.ahead = 0;
      load_block_scales<Vector>(at.block.values + values_bytes, at.scales);
      at.unit = weight_unit<Vector>(at.scales, 0, kTokensPerBlock - 1);
      typename Walk::Walkers walkers;
      for (int64_t t = begin; t < end; ++t) {
        const Active active = active_in(tiles[t], at.block.first_position);
        if (active.end - active.begin > Vector::kMaxRowQueries) {
          walkers.tiles[walkers.count] = t;
          walkers.active[walkers.count++] = active;
          continue;
        }
        int64_t query = active.begin;
        add_integer_rows_of<Vector, SoftmaxOps512, Vector::kRowsAtOnce>(
            task, {.all = queries, .first = t * kTile}, at, active, query, tiles[t]);
      }
      if (walkers.count > 0) walk.add(at, walkers, tiles);
    }
  }
  for (int64_t t = 0; t < num_tiles; ++t) store_tile(tiles[t]);
}

}  // namespace
}  // namespace tidemill

// Attention over keys and values of int8, of a tile of 16 queries, one to an element, and of a
// whole task: see attention_rows.h.
#pragma once

#include <stdint.h>

#include "kernels/host/attention_loop.h"
#include "kernels/host/int8_cache/attention_rows.h"
#include "kernels/host/unroll.h"

namespace tidemill {
namespace {

template <typename Vector>
void widen_lines(const unsigned char* from, int64_t lines, int64_t ahead, int32_t* to) {
  for (int64_t line = 0; line < lines; ++line, from += 64, to += 2 * kTile) {
    prefetch(from + ahead);
    TIDEMILL_UNROLL
    for (int part = 0; part < kTile / Vector::kWidth; ++part) {
      const auto bytes = Vector::load_bytes(from + part * Vector::kWidth * 4);
      Vector::store(Vector::even(bytes), to + part * Vector::kWidth);
      Vector::store(Vector::odd(bytes), to + kTile + part * Vector::kWidth);
    }
  }
}

template <typename Vector>
void widen_block(const AttentionTask& task, const Block& block, WidenedBlock& to) {
  widen_lines<Vector>(block.keys, 2 * quads_of(task.head_dim), block.ahead, to.keys);
  widen_lines<Vector>(block.values, padded_head_dim(task.head_dim) / 2, block.ahead, to.values);
}

// A tile's queries, side by side.
struct PackedQueries {
  alignas(64) int32_t pairs[kTile * kMaxHeadDim / 2];  // [pair][query]
  const float* factors = nullptr;                      // IntegerQueries'; null: not packed yet
};

inline void pack_queries(const AttentionTask& task, const TileQueries& queries,
                         PackedQueries& packed) {
  const int64_t first = queries.first;
  for (int64_t pair = 0; pair < 2 * quads_of(task.head_dim); ++pair) {
    for (int64_t i = 0; i < kTile; ++i) {
      const int64_t query = first + i < task.num_queries ? first + i : first;
      packed.pairs[pair * kTile + i] = queries.all.pairs[query][pair];
    }
  }
  packed.factors = queries.all.factors + first;
}

// scores: [token][query]
template <typename Vector>
void tile_scores(const AttentionTask& task, const PackedQueries& queries, const int32_t* keys,
                 const unsigned char* scales, float* scores) {
  constexpr int kParts = kTile / Vector::kWidth;
  constexpr int kTokens = Vector::kTileTokens;
  const int64_t pairs = 2 * quads_of(task.head_dim);
  for (int64_t t = 0; t < kTokensPerBlock; t += kTokens) {
    const int32_t* key = keys + t / 16 * pairs * kTile + t % 16;
    const int32_t* q = queries.pairs;
    typename Vector::Int sums[kTokens][kParts];
    TIDEMILL_UNROLL_16
    for (int i = 0; i < kTokens * kParts; ++i) sums[i / kParts][i % kParts] = Vector::zero();
    for (int64_t pair = 0; pair < pairs; ++pair, key += kTile, q += kTile) {
      typename Vector::Int query[kParts];
      TIDEMILL_UNROLL
      for (int part = 0; part < kParts; ++part) {
        query[part] = Vector::load_bytes(q + part * Vector::kWidth);
      }
      TIDEMILL_UNROLL_16
      for (int i = 0; i < kTokens; ++i) {
        const auto two = Vector::set(key[i]);
        TIDEMILL_UNROLL
        for (int part = 0; part < kParts; ++part) {
          sums[i][part] = Vector::dot(sums[i][part], query[part], two);
        }
      }
    }
    TIDEMILL_UNROLL_16
    for (int i = 0; i < kTokens; ++i) {
      const auto scale = Vector::set(Vector::scale_at(scales + 2 * (t + i)));
      TIDEMILL_UNROLL
      for (int part = 0; part < kParts; ++part) {
        const auto factor =
            Vector::mul(scale, Vector::load(queries.factors + part * Vector::kWidth));
        Vector::store(Vector::mul(Vector::to_float(sums[i][part]), factor),
                      scores + (t + i) * kTile + part * Vector::kWidth);
      }
    }
  }
}

// Probabilities [token][query] become pairs [pair][query].
template <typename Vector>
void round_tile(const float* probabilities, const BlockScales& scales, const float* inverses,
                int32_t* pairs) {
  for (int64_t i = 0; i < kTile; i += Vector::kWidth) {
    const auto inverse = Vector::load(inverses + i);
    const auto integer = [&](int64_t t) {
      const auto scaled = Vector::mul(Vector::set(scales.of_token[t]), inverse);
      return Vector::round(Vector::mul(Vector::load(probabilities + t * kTile + i), scaled));
    };
    for (int64_t quad = 0; quad < kBlockQuads; ++quad) {
      int32_t* two = pairs + 2 * quad * kTile + i;
      Vector::store(Vector::pair_of(integer(4 * quad), integer(4 * quad + 2)), two);
      Vector::store(Vector::pair_of(integer(4 * quad + 1), integer(4 * quad + 3)), two + kTile);
    }
  }
}

// kQueries by kColumns columns of 16 dims.
template <typename Vector, int kQueries, int kColumns>
void add_tile_columns(const int32_t* values, const int32_t* probabilities, const float* units,
                      int64_t query, int64_t d, QueryTile& tile) {
  constexpr int kParts = kColumns * kTile / Vector::kWidth;
  constexpr int kOfColumn = kTile / Vector::kWidth;
  typename Vector::Int sums[kQueries][kParts];
  TIDEMILL_UNROLL_16
  for (int i = 0; i < kQueries * kParts; ++i) sums[i / kParts][i % kParts] = Vector::zero();
  for (int64_t pair = 0; pair < kBlockPairs; ++pair) {
    typename Vector::Int column[kParts];
    TIDEMILL_UNROLL
    for (int part = 0; part < kParts; ++part) {
      const int64_t line = part / kOfColumn * kBlockPairs + pair;
      column[part] = Vector::load_bytes(values + line * kTile + part % kOfColumn * Vector::kWidth);
    }
    TIDEMILL_UNROLL
    for (int q = 0; q < kQueries; ++q) {
      const auto two = Vector::set(probabilities[pair * kTile + query + q]);
      TIDEMILL_UNROLL
      for (int part = 0; part < kParts; ++part) {
        sums[q][part] = Vector::dot(sums[q][part], two, column[part]);
      }
    }
  }
  TIDEMILL_UNROLL_16
  for (int i = 0; i < kQueries * kParts; ++i) {
    const int64_t at = query + i / kParts;
    add_to_values<Vector>(sums[i / kParts][i % kParts], units[at], tile.factor[at],
                          tile.values(at) + d + i % kParts * Vector::kWidth);
  }
}

template <typename Vector, int kQueries>
void add_all_tile_columns(const int32_t* values, const int32_t* probabilities, const float* units,
                          int64_t query, int64_t padded_dim, QueryTile& tile) {
  constexpr int kColumns = Vector::kTileColumns;
  int64_t d = 0;
  for (; d + kColumns * 16 <= padded_dim; d += kColumns * 16) {
    add_tile_columns<Vector, kQueries, kColumns>(values + d * kBlockPairs, probabilities, units,
                                                 query, d, tile);
  }
  for (; d < padded_dim; d += 16) {
    add_tile_columns<Vector, kQueries, 1>(values + d * kBlockPairs, probabilities, units, query, d,
                                          tile);
  }
}

template <typename Vector, typename Softmax>
void add_integer_tile(const AttentionTask& task, const IntegerBlock& at,
                      const WidenedBlock& widened, const Active& active,
                      const PackedQueries& queries, QueryTile& tile) {
  alignas(64) float scores[kTokensPerBlock * kTile];  // [token][query]
  alignas(64) int32_t pairs[kBlockPairs * kTile];
  alignas(64) float inverses[kTile];
  float units[kTile];
  const Block& block = at.block;
  const int64_t padded_dim = padded_head_dim(task.head_dim);
  tile_scores<Vector>(task, queries, widened.keys, block.keys + 2 * quads_of(task.head_dim) * 64,
                      scores);
  if (active.masked) Softmax::mask_tile(block.first_position, tile, scores);
  Softmax::tile_softmax(tile, active.masked, scores);
  for (int64_t i = 0; i < kTile; ++i) {
    const bool wanted = i >= active.begin && i < active.end;
    const WeightUnit unit = unit_for<Vector>(at, active.masked && wanted, tile, i);
    inverses[i] = unit.inverse;
    units[i] = unit.unit;
  }
  round_tile<Vector>(scores, at.scales, inverses, pairs);
  int64_t query = active.begin;
  for (; query + 4 <= active.end; query += 4) {
    add_all_tile_columns<Vector, 4>(widened.values, pairs, units, query, padded_dim, tile);
  }
  for (; query < active.end; ++query) {
    add_all_tile_columns<Vector, 1>(widened.values, pairs, units, query, padded_dim, tile);
  }
}

template <typename Vector, typename Softmax>
void attend_integers(const AttentionTask& task) {
  const int64_t num_tiles = (task.num_queries + kTile - 1) / kTile;
  const int64_t values_bytes = padded_head_dim(task.head_dim) * kTokensPerBlock;
  QueryTile tiles[kTaskTiles];
  PackedQueries packed[kTaskTiles];
  IntegerQueries queries;
  WidenedBlock widened;
  round_queries<Vector>(task, queries);
  for (int64_t t = 0; t < num_tiles; ++t) load_tile(task, t * kTile, tiles[t]);
  for (int64_t index = task.begin; index < task.end; ++index) {
    IntegerBlock at{.block = block_at(task, index, kBlocksAhead)};
    load_block_scales<Vector>(at.block.values + values_bytes, at.scales);
    at.unit = weight_unit<Vector>(at.scales, 0, kTokensPerBlock - 1);
    bool is_widened = false;
    for (int64_t t = 0; t < num_tiles; ++t) {
      QueryTile& tile = tiles[t];
      const TileQueries of_tile{.all = queries, .first = t * kTile};
      const Active active = active_in(tile, at.block.first_position);
      if (active.end - active.begin <= Vector::kMaxRowQueries) {
        int64_t query = active.begin;
        add_integer_rows_of<Vector, Softmax, Vector::kRowsAtOnce>(task, of_tile, at, active, query,
                                                                  tile);
        continue;
      }
      if (packed[t].factors == nullptr) pack_queries(task, of_tile, packed[t]);
      if (!is_widened) widen_block<Vector>(task, at.block, widened);
      is_widened = true;
      add_integer_tile<Vector, Softmax>(task, at, widened, active, packed[t], tile);
      at.block.ahead = 0;
    }
  }
  for (int64_t t = 0; t < num_tiles; ++t) store_tile(tiles[t]);
}

}  // namespace
}  // namespace tidemill

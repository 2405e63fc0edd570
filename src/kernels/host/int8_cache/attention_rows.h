// Attention over keys and values of int8 (kv_layout.h), for vector variants. Included by
// attention_*.cc of this folder, which bring `Vector` (a register of 32-bit numbers and what is
// done with it) and `Softmax` (what the attention over floats does between scores and values).
//
// Products are exact: a query's elements become integers of 16 bits with one scale, and so do the
// probabilities of a block, each times the scale of its token's value, in units that make the
// largest scale of the block 32639: both meet the int8 numbers in sums of 32 bits. (A weight below
// half a unit vanishes: of the 512 tokens of a partition, whose largest weighs about one, together
// less than one in a hundred.) Scales multiply what comes out, once a score and once a block's sum
// of values. So the two ways to walk a block (host/attention_loop.h) agree in the order of floats
// alone: scores, softmax, and a block's values added to those before it.
//
// Bytes are widened without crossing elements: an element's even bytes by two shifts, the odd ones
// by one. Pairs of 16 bits are therefore the first and third, the second and fourth of four dims
// (tokens), and queries (probabilities) are laid down in that order.
#pragma once

#include <stdint.h>

#include "kernels/host/attention_loop.h"
#include "kernels/host/unroll.h"

namespace tidemill {
namespace {

constexpr float kMax16 = 32639.0f;  // 127 * 257: its bytes, both signed, are 127 and 127
// Below it, queries and weights count as zero; their reciprocal is still a float.
constexpr float kLeastPeak = 1.0e-30f;
static_assert(32639LL * 127 * kMaxHeadDim <= INT32_MAX, "sums of a score are exact");

// Half as long as blocks of bf16, these take twice as many to fetch in the same time.
constexpr int64_t kBlocksAhead = 2;
constexpr int64_t kBlockQuads = kTokensPerBlock / 4;
constexpr int64_t kBlockPairs = kTokensPerBlock / 2;

constexpr int64_t quads_of(int64_t head_dim) { return (head_dim + 3) / 4; }

// A task's queries as integers.
struct IntegerQueries {
  alignas(64) int32_t pairs[kTaskQueries][kMaxHeadDim / 2];  // for tiles
  alignas(64) int32_t words[kTaskQueries][kMaxHeadDim / 2];  // for rows, as Vector has them
  int32_t sums[kTaskQueries];                                // of the integers
  alignas(64) float factors[kTaskQueries];  // a score's, but for the scale of its key
};

// Those of a tile: first, first + 1, ...
struct TileQueries {
  const IntegerQueries& all;
  int64_t first;
};

// A block's bytes widened: lines of 16 pairs.
struct WidenedBlock {
  alignas(64) int32_t keys[kTokensPerBlock * kMaxHeadDim / 2];
  alignas(64) int32_t values[kTokensPerBlock * kMaxHeadDim / 2];
};

// What floats whose largest is `peak` are divided by to be integers.
template <typename Vector>
struct Rounding {
  typename Vector::Float inverse;
  typename Vector::Float unit;
};
template <typename Vector>
Rounding<Vector> rounding_of(typename Vector::Int peak_bits) {
  // As integers, so that NaN is larger than all numbers and stays in sight.
  const auto peak =
      Vector::as_float(Vector::max(peak_bits, Vector::as_int(Vector::set(kLeastPeak))));
  return {Vector::div(Vector::set(kMax16), peak), Vector::mul(peak, Vector::set(1.0f / kMax16))};
}

// Of a block's values.
struct BlockScales {
  alignas(64) float of_token[kTokensPerBlock];
};

// Weights are probabilities times scales; none is larger than the largest scale.
struct WeightUnit {
  float inverse;
  float unit;
};

template <typename Vector>
void load_block_scales(const unsigned char* from, BlockScales& scales) {
  TIDEMILL_UNROLL
  for (int64_t t = 0; t < kTokensPerBlock; t += Vector::kWidth) {
    Vector::store(Vector::load_scales(from + 2 * t), scales.of_token + t);
  }
}

// Of the block's tokens first .. last alone: what a query does not attend to may not have been
// written when it was computed elsewhere.
template <typename Vector>
WeightUnit weight_unit(const BlockScales& scales, int64_t first, int64_t last) {
  auto bits = Vector::zero();
  for (int64_t t = 0; t < kTokensPerBlock; t += Vector::kWidth) {
    const auto scale = Vector::as_int(Vector::load(scales.of_token + t));
    bits = Vector::max(bits, Vector::clear_outside(scale, first - t, last - t));
  }
  const Rounding<Vector> rounding = rounding_of<Vector>(Vector::set(Vector::max_of(bits)));
  return {Vector::first(rounding.inverse), Vector::first(rounding.unit)};
}

// Those of tokens first .. last; of the others 0, for no probability makes 0 of one that the unit
// raises beyond all numbers.
template <typename Vector>
void clear_scales(const BlockScales& scales, int64_t first, int64_t last, BlockScales& cleared) {
  for (int64_t t = 0; t < kTokensPerBlock; t += Vector::kWidth) {
    const auto bits = Vector::as_int(Vector::load(scales.of_token + t));
    Vector::store(Vector::as_float(Vector::clear_outside(bits, first - t, last - t)),
                  cleared.of_token + t);
  }
}

// What the walk over a block's queries needs of it.
struct IntegerBlock {
  Block block;
  BlockScales scales;
  WeightUnit unit;  // of a query that attends to all of it
};

template <typename Vector>
WeightUnit unit_for(const IntegerBlock& at, bool masked, const QueryTile& tile, int64_t query) {
  if (!masked) return at.unit;
  return weight_unit<Vector>(at.scales, tile.first[query] - at.block.first_position,
                             tile.last[query] - at.block.first_position);
}

template <typename Vector>
void round_query(const float* q, int64_t head_dim, float scale, int64_t query,
                 IntegerQueries& queries) {
  alignas(64) float padded[kMaxHeadDim];
  const int64_t end = padded_head_dim(head_dim);
  __builtin_memcpy(padded, q, static_cast<size_t>(head_dim) * sizeof(float));
  for (int64_t d = head_dim; d < end; ++d) padded[d] = 0.0f;
  auto bits = Vector::zero();
  auto sum = bits;
  for (int64_t d = 0; d < end; d += Vector::kWidth) {
    bits = Vector::max(bits, Vector::magnitude(Vector::load(padded + d)));
  }
  const Rounding<Vector> rounding = rounding_of<Vector>(Vector::set(Vector::max_of(bits)));
  for (int64_t d = 0; d < end; d += Vector::kWidth) {
    const auto integers = Vector::round(Vector::mul(Vector::load(padded + d), rounding.inverse));
    Vector::store_pairs(integers, queries.pairs[query] + d / 2);
    Vector::store_query(integers, queries.words[query] + d / 2);
    sum = Vector::add(sum, integers);
  }
  queries.sums[query] = Vector::sum_of(sum);
  queries.factors[query] = Vector::first(rounding.unit) * scale;
}

template <typename Vector>
void round_queries(const AttentionTask& task, IntegerQueries& queries) {
  for (int64_t i = 0; i < kTaskQueries; ++i) {
    queries.factors[i] = 0.0f;
    if (i >= task.num_queries) continue;
    round_query<Vector>(static_cast<const float*>(task.q[i]), task.head_dim, task.scale, i,
                        queries);
  }
}

// Queries query .. query + kRows of a tile, one query's 32 scores side by side.

template <typename Vector, int kRows>
void row_scores(const AttentionTask& task, const IntegerQueries& queries, int64_t query,
                const unsigned char* run, int64_t ahead, float (*scores)[kTokensPerBlock]) {
  constexpr int kParts = kTokensPerBlock / Vector::kWidth;
  constexpr int kLast = Vector::kSums - 1;
  const int64_t quads = quads_of(task.head_dim);
  typename Vector::Int sums[kRows][kParts][Vector::kSums];
  TIDEMILL_UNROLL
  for (int i = 0; i < kRows * kParts; ++i) {
    sums[i / kParts][i % kParts][0] = Vector::zero();
    sums[i / kParts][i % kParts][kLast] = Vector::zero();
  }
  for (int64_t quad = 0; quad < quads; ++quad) {
    TIDEMILL_UNROLL
    for (int part = 0; part < kParts; ++part) {
      const int first_token = part * Vector::kWidth;
      const unsigned char* line =
          run + (first_token / 16 * quads + quad) * 64 + first_token % 16 * 4;
      if (first_token % 16 == 0) prefetch(line + ahead);
      const auto bytes = Vector::load_bytes(line);
      const auto first = Vector::first_keys(bytes);
      const auto second = Vector::second_keys(bytes);
      TIDEMILL_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const int32_t* two = queries.words[query + r] + 2 * quad;
        sums[r][part][0] = Vector::add_keys(sums[r][part][0], Vector::set(two[0]), first);
        sums[r][part][kLast] = Vector::add_keys(sums[r][part][kLast], Vector::set(two[1]), second);
      }
    }
  }
  const unsigned char* scales = run + 2 * quads * 64;
  prefetch(scales + ahead);
  TIDEMILL_UNROLL
  for (int part = 0; part < kParts; ++part) {
    const auto scale = Vector::load_scales(scales + part * Vector::kWidth * 2);
    TIDEMILL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const auto factor = Vector::mul(scale, Vector::set(queries.factors[query + r]));
      const auto total =
          Vector::key_total(sums[r][part][0], sums[r][part][kLast], queries.sums[query + r]);
      Vector::store(Vector::mul(Vector::to_float(total), factor),
                    scores[r] + part * Vector::kWidth);
    }
  }
}

template <typename Vector>
void round_row(const float* probabilities, const BlockScales& scales, const WeightUnit& unit,
               int32_t* words) {
  TIDEMILL_UNROLL
  for (int64_t t = 0; t < kTokensPerBlock; t += Vector::kWidth) {
    const auto scaled = Vector::mul(Vector::load(scales.of_token + t), Vector::set(unit.inverse));
    Vector::store_weights(Vector::round(Vector::mul(Vector::load(probabilities + t), scaled)),
                          words + t / 2);
  }
}

template <typename Vector>
void add_to_values(typename Vector::Int sum, float unit, float factor, float* values) {
  const auto before = Vector::mul(Vector::load(values), Vector::set(factor));
  Vector::store(Vector::fmadd(Vector::to_float(sum), Vector::set(unit), before), values);
}

template <typename Vector, int kRows>
void add_row_values(const AttentionTask& task, const IntegerBlock& at, bool masked, int64_t query,
                    const float (*probabilities)[kTokensPerBlock], QueryTile& tile) {
  constexpr int kParts = kTile / Vector::kWidth;
  constexpr int kLast = Vector::kSums - 1;
  const int64_t padded_dim = padded_head_dim(task.head_dim);
  const unsigned char* run = at.block.values;
  const int64_t ahead = at.block.ahead;
  prefetch(run + padded_dim * kTokensPerBlock + ahead);
  alignas(64) int32_t words[kRows][kBlockPairs];
  float units[kRows];
  for (int r = 0; r < kRows; ++r) {
    const WeightUnit unit = unit_for<Vector>(at, masked, tile, query + r);
    if (masked) {
      BlockScales attended;
      clear_scales<Vector>(at.scales, tile.first[query + r] - at.block.first_position,
                           tile.last[query + r] - at.block.first_position, attended);
      round_row<Vector>(probabilities[r], attended, unit, words[r]);
    } else {
      round_row<Vector>(probabilities[r], at.scales, unit, words[r]);
    }
    units[r] = unit.unit;
  }
  for (int64_t d = 0; d < padded_dim; d += 16) {
    const unsigned char* column = run + d * kTokensPerBlock;
    typename Vector::Int sums[kRows][kParts][Vector::kSums];
    TIDEMILL_UNROLL
    for (int i = 0; i < kRows * kParts; ++i) {
      sums[i / kParts][i % kParts][0] = Vector::zero();
      sums[i / kParts][i % kParts][kLast] = Vector::zero();
    }
    for (int64_t quad = 0; quad < kBlockQuads; ++quad) {
      const unsigned char* line = column + quad * 64;
      prefetch(line + ahead);
      TIDEMILL_UNROLL
      for (int part = 0; part < kParts; ++part) {
        const auto bytes = Vector::load_bytes(line + part * Vector::kWidth * 4);
        const auto first = Vector::first_values(bytes);
        const auto second = Vector::second_values(bytes);
        TIDEMILL_UNROLL
        for (int r = 0; r < kRows; ++r) {
          const int32_t* two = words[r] + 2 * quad;
          sums[r][part][0] = Vector::add_values(sums[r][part][0], Vector::set(two[0]), first);
          sums[r][part][kLast] =
              Vector::add_values(sums[r][part][kLast], Vector::set(two[1]), second);
        }
      }
    }
    TIDEMILL_UNROLL
    for (int i = 0; i < kRows * kParts; ++i) {
      const int r = i / kParts;
      const int part = i % kParts;
      add_to_values<Vector>(Vector::value_total(sums[r][part][0], sums[r][part][kLast]), units[r],
                            tile.factor[query + r],
                            tile.values(query + r) + d + part * Vector::kWidth);
    }
  }
}

template <typename Vector, typename Softmax, int kRows>
void add_integer_rows(const AttentionTask& task, const TileQueries& queries, const IntegerBlock& at,
                      bool masked, int64_t query, QueryTile& tile) {
  const Block& block = at.block;
  alignas(64) float scores[kRows][kTokensPerBlock];
  row_scores<Vector, kRows>(task, queries.all, queries.first + query, block.keys, block.ahead,
                            scores);
  // Row by row in each step: the chains of several rows hide what one of them waits for.
  float max[kRows];
  for (int64_t r = 0; r < kRows; ++r) {
    const int64_t i = query + r;
    if (masked) mask_row(block.first_position, tile.first[i], tile.last[i], scores[r]);
    const float block_max = Softmax::max(scores[r]);
    max[r] = block_max > tile.max[i] ? block_max : tile.max[i];
  }
  for (int64_t r = 0; r < kRows; ++r) {
    float& before = tile.max[query + r];
    float& factor = tile.factor[query + r];
    factor = before == max[r] ? 1.0f : Softmax::exp_one(before - max[r]);  // as exp(0) is
    before = max[r];
  }
  TIDEMILL_UNROLL
  for (int64_t r = 0; r < kRows; ++r) {
    float& sum = tile.sum[query + r];
    sum = sum * tile.factor[query + r] + Softmax::exponentials(scores[r], max[r]);
  }
  add_row_values<Vector, kRows>(task, at, masked, query, scores, tile);
}

template <typename Vector, typename Softmax, int kRows>
void add_integer_rows_of(const AttentionTask& task, const TileQueries& queries, IntegerBlock& at,
                         const Active& active, int64_t& query, QueryTile& tile) {
  for (; query + kRows <= active.end; query += kRows) {
    add_integer_rows<Vector, Softmax, kRows>(task, queries, at, active.masked, query, tile);
    at.block.ahead = 0;  // the first queries have asked for the next block
  }
  if constexpr (kRows > 1) {
    if (query < active.end) {
      add_integer_rows_of<Vector, Softmax, kRows - 1>(task, queries, at, active, query, tile);
    }
  }
}

}  // namespace
}  // namespace tidemill

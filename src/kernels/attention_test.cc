// Attention over blocks that rotate_and_store has filled.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <ostream>
#include <string>

#include "kernels/attention_cases.h"

namespace tidemill {
namespace {

using test::Cache;
using test::Case;
using test::cases;
using test::kNan;
using test::on_lanes;
using test::OwnedTensor;
using test::query_type;
using test::Random;
using test::rounded;
using test::scale_of;
using test::shape_of;

// Angles of zero: rotation leaves everything as it is.
struct NoRotation {
  explicit NoRotation(int64_t positions, int64_t head_dim)
      : cos(static_cast<size_t>(positions * head_dim / 2), 1.0f), sin(cos.size(), 0.0f) {}
  Rotary view() const { return {.cos = cos.data(), .sin = sin.data()}; }
  std::vector<float> cos, sin;
};

// Sequences of equal length in one cache; sequence s owns every other block, backwards.
constexpr int32_t kSequences = 2;

// The sequences' first tokens that are the same, and whether they lie in the same blocks.
struct Prefix {
  int32_t sequences = kSequences;
  int64_t blocks = 0;
  bool shared = false;
};

class Setting {
 public:
  Setting(const Kernels& kernels, DType type, const AttentionShape& shape, int64_t length,
          Random& random, float recycled = kNan, const Prefix& prefix = {})
      : kernels_(kernels),
        shape_(shape),
        length_(length),
        blocks_((length + kTokensPerBlock - 1) / kTokensPerBlock),
        qkv_(DType::kF32, prefix.sequences * length,
             (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim),
        cache_(type, shape, prefix.sequences * blocks_, recycled),
        rotation_(length, shape.head_dim) {
    test::randomize(qkv_, random);
    for (int32_t s = 0; s < prefix.sequences; ++s) {
      for (int64_t b = 0; b < blocks_; ++b) {
        const int32_t owner = prefix.shared && b < prefix.blocks ? 0 : s;
        block_ids_.push_back(static_cast<int32_t>((blocks_ - 1 - b) * prefix.sequences + owner));
      }
      for (int64_t row = 0; row < prefix.blocks * kTokensPerBlock; ++row) {
        for (int64_t c = 0; c < qkv_.view().cols; ++c) {
          qkv_.set(s * length + row, c, qkv_.at(row, c));
        }
      }
    }
  }

  struct Piece {
    int32_t sequence;
    int64_t first;
    int64_t count;
  };

  enum class Calls { kStore, kStoreAndAttend };

  // One step over pieces of sequences; a row of the result per token, in the order of the pieces.
  OwnedTensor step(const std::vector<Piece>& pieces, int lanes,
                   Calls calls = Calls::kStoreAndAttend) {
    std::vector<int32_t> positions, table_begins;
    std::vector<int64_t> sources;
    for (const Piece& piece : pieces) {
      for (int64_t p = piece.first; p < piece.first + piece.count; ++p) {
        positions.push_back(static_cast<int32_t>(p));
        table_begins.push_back(static_cast<int32_t>(piece.sequence * blocks_));
        sources.push_back(piece.sequence * length_ + p);
      }
    }
    const auto count = static_cast<int64_t>(positions.size());
    OwnedTensor qkv(DType::kF32, count, qkv_.view().cols);
    for (int64_t row = 0; row < count; ++row) {
      for (int64_t c = 0; c < qkv_.view().cols; ++c) {
        qkv.set(row, c, qkv_.at(sources[static_cast<size_t>(row)], c));
      }
    }
    const int64_t width = shape_.num_heads * shape_.head_dim;
    OwnedTensor q(query_type(cache_.layer().type), count, width);
    OwnedTensor out(DType::kF32, count, width);
    const TokenRows rows{.count = count,
                         .positions = positions.data(),
                         .table_begins = table_begins.data(),
                         .block_ids = block_ids_.data()};
    const Buffer buffer =
        kernels_.allocate(static_cast<size_t>(attention_memory_bytes(shape_, count, length_)));
    const AttentionMemory memory{buffer.data(), static_cast<int64_t>(buffer.bytes())};
    on_lanes(lanes, [&](Lane& lane) {
      kernels_.plan_attention(lane, shape_, rows, memory);
      kernels_.rotate_and_store(lane, qkv.view(), shape_, rotation_.view(), rows, q.view(),
                                cache_.layer());
      if (calls == Calls::kStore) return;
      kernels_.attention(lane, q.view(), shape_, rows, cache_.layer(), memory, out.view());
    });
    return out;
  }

  // Element of q (part 0), k (1) or v (2) as the cache's type holds it.
  double element(int part, int32_t sequence, int64_t position, int64_t head, int64_t d) const {
    const int64_t before = part == 0 ? 0 : shape_.num_heads + (part - 1) * shape_.num_kv_heads;
    const int64_t first = (before + head) * shape_.head_dim;
    const int64_t row = sequence * length_ + position;
    if (cache_.layer().type == DType::kInt8 && part > 0) return integer_at(row, first, d);
    return rounded(query_type(cache_.layer().type), qkv_.at(row, first + d));
  }

  double integer_at(int64_t row, int64_t first, int64_t d) const {
    float largest = 0.0f;
    for (int64_t i = 0; i < shape_.head_dim; ++i) {
      largest = std::max(largest, std::fabs(qkv_.at(row, first + i)));
    }
    const float scale = scale_of(largest);
    return static_cast<double>(std::nearbyint(qkv_.at(row, first + d) / scale)) * scale;
  }

  // Softmax as a school book has it.
  std::vector<double> expected(int32_t sequence, int64_t position, int64_t head) const {
    const int64_t kv_head = head / (shape_.num_heads / shape_.num_kv_heads);
    const int64_t first =
        shape_.window > 0 ? std::max<int64_t>(0, position + 1 - shape_.window) : 0;
    std::vector<double> out(static_cast<size_t>(shape_.head_dim), 0.0);
    double sum = 0.0;
    for (int64_t t = first; t <= position; ++t) {
      double score = 0.0;
      for (int64_t d = 0; d < shape_.head_dim; ++d) {
        score += element(0, sequence, position, head, d) * element(1, sequence, t, kv_head, d);
      }
      const double p = std::exp(score * shape_.scale);
      sum += p;
      for (int64_t d = 0; d < shape_.head_dim; ++d) {
        out[static_cast<size_t>(d)] += p * element(2, sequence, t, kv_head, d);
      }
    }
    for (double& value : out) value /= sum;
    return out;
  }

  // Every query head asks what the first one asks.
  void repeat_first_query() {
    for (int64_t row = 0; row < qkv_.view().rows; ++row) {
      for (int64_t c = shape_.head_dim; c < shape_.num_heads * shape_.head_dim; ++c) {
        qkv_.set(row, c, qkv_.at(row, c % shape_.head_dim));
      }
    }
  }

  // One element of the first kv head's value.
  void spoil_value(int32_t sequence, int64_t position) {
    const int64_t first = (shape_.num_heads + shape_.num_kv_heads) * shape_.head_dim;
    qkv_.set(sequence * length_ + position, first + 3, kNan);
  }

  void spoil_key(int32_t sequence, int64_t position) {
    qkv_.set(sequence * length_ + position, shape_.num_heads * shape_.head_dim + 3, kNan);
  }

  void exchange_tokens(int32_t sequence, int64_t a, int64_t b) {
    for (int64_t c = shape_.num_heads * shape_.head_dim; c < qkv_.view().cols; ++c) {
      const float kept = qkv_.at(sequence * length_ + a, c);
      qkv_.set(sequence * length_ + a, c, qkv_.at(sequence * length_ + b, c));
      qkv_.set(sequence * length_ + b, c, kept);
    }
  }

 private:
  const Kernels& kernels_;
  const AttentionShape shape_;
  const int64_t length_;
  const int64_t blocks_;  // per sequence
  OwnedTensor qkv_;
  Cache cache_;
  NoRotation rotation_;
  std::vector<int32_t> block_ids_;
};

class Attention : public testing::TestWithParam<Case> {
 protected:
  Setting setting(const AttentionShape& shape, int64_t length, float recycled = kNan,
                  const Prefix& prefix = {}) {
    Random random(length);  // the same numbers for the same length
    return Setting(*GetParam().kernels, GetParam().type, shape, length, random, recycled, prefix);
  }
  // Values are at most 1 in magnitude, so their weighted mean errs by what the weights err by: a
  // score of head_dim products of numbers below 1, times scale, and a sum over the context; bf16
  // probabilities keep 8 bits. Beside int8, queries and weights keep 15.
  double rounding(const AttentionShape& shape) const {
    if (GetParam().type == DType::kF32) return 0.0;
    if (GetParam().type == DType::kBf16) return 0x1p-8;
    return 0x1p-16 + 2.0 * static_cast<double>(shape.head_dim) * shape.scale * 0x1p-16;
  }
  double tolerance(const AttentionShape& shape, int64_t context) const {
    const auto dim = static_cast<double>(shape.head_dim);
    const double score_error = dim * dim * shape.scale * 0x1p-24;
    return 2.0 * score_error + (static_cast<double>(context) / 16 + 40) * 0x1p-24 + rounding(shape);
  }
};

TEST_P(Attention, IsSoftmaxOverTheContextInRecycledBlocks) {
  const AttentionShape shapes[] = {
      shape_of(16, 4, 4),  shape_of(24, 3, 1),       shape_of(32, 4, 1, 32), shape_of(64, 9, 3),
      shape_of(128, 2, 1), shape_of(256, 1, 1, 100), shape_of(32, 7, 1),     shape_of(16, 9, 1)};
  for (const AttentionShape& shape : shapes) {
    for (const int64_t context : {1, 31, 32, 33, 511, 512, 513, 1300}) {
      Setting sequences = setting(shape, context);
      const OwnedTensor out = sequences.step({{1, 0, context}}, 2);
      for (const int64_t position : {context - 1, context / 2, int64_t{0}}) {
        for (int64_t head = 0; head < shape.num_heads; ++head) {
          const std::vector<double> expected = sequences.expected(1, position, head);
          for (int64_t d = 0; d < shape.head_dim; ++d) {
            ASSERT_NEAR(out.at(position, head * shape.head_dim + d),
                        expected[static_cast<size_t>(d)], tolerance(shape, context))
                << "head_dim " << shape.head_dim << " context " << context << " at " << position;
          }
        }
      }
    }
  }
}

// Chunks of every size, one token at a time at the end, a neighbour in the same step, other lanes:
// the same bits.
TEST_P(Attention, RowsBitsDoNotDependOnHowThePromptWasCut) {
  for (const AttentionShape& shape :
       {shape_of(24, 3, 1), shape_of(64, 4, 2), shape_of(64, 4, 2, 32)}) {
    constexpr int64_t kLength = 600;
    Setting at_once = setting(shape, kLength);
    const OwnedTensor whole = at_once.step({{0, 0, kLength}}, 1);
    Setting in_pieces = setting(shape, kLength);
    Random sizes(5);
    for (int64_t first = 0; first < kLength;) {
      const int64_t size = first > 560 ? 1 : 1 + static_cast<int64_t>(sizes() % 97);
      const int64_t count = std::min(size, kLength - first);
      const OwnedTensor part =
          in_pieces.step({{1, first, count}, {0, first, count}}, 1 + static_cast<int>(sizes() % 3));
      for (int64_t i = 0; i < count; ++i) {
        ASSERT_EQ(part.bits(count + i), whole.bits(first + i)) << "position " << first + i;
      }
      first += count;
    }
  }
}

// A long sequence alone is cut for lanes between its partitions: the same bits as whole, and as in
// prefill.
TEST_P(Attention, RowsBitsDoNotDependOnHowLanesShareASequence) {
  for (const AttentionShape& shape : {shape_of(24, 3, 1), shape_of(32, 2, 2, 1100)}) {
    constexpr int64_t kLength = 2200;
    Setting sequences = setting(shape, kLength);
    sequences.step({{0, 0, 1090}}, 2, Setting::Calls::kStore);
    const OwnedTensor rest = sequences.step({{0, 1090, kLength - 1090}}, 3);
    for (const int64_t position : {kLength - 1, int64_t{1700}, int64_t{1535}, int64_t{1090}}) {
      for (const int lanes : {1, 2, 3, 5}) {
        const OwnedTensor alone = sequences.step({{0, position, 1}}, lanes);
        ASSERT_EQ(alone.bits(0), rest.bits(position - 1090)) << position << " on " << lanes;
      }
    }
  }
}

// Sequences with the same blocks at the head of their tables, and with copies of them, in steps
// with sequences that have neither: the same bits.
TEST_P(Attention, RowsBitsDoNotDependOnSharedBlocks) {
  constexpr int32_t kCount = 5;
  constexpr int64_t kLength = 700;
  for (const AttentionShape& shape :
       {shape_of(24, 6, 2), shape_of(16, 20, 1), shape_of(24, 3, 1, 300)}) {
    for (const int64_t blocks : {5, 16, 20}) {
      Setting shared = setting(shape, kLength, kNan, {kCount, blocks, true});
      Setting copied = setting(shape, kLength, kNan, {kCount, blocks, false});
      std::vector<Setting::Piece> decode;
      for (int32_t s = 0; s < kCount; ++s) {
        shared.step({{s, 0, kLength}}, 2, Setting::Calls::kStore);
        copied.step({{s, 0, kLength}}, 2, Setting::Calls::kStore);
        // Not in order, ends in all places, one inside the prefix.
        decode.push_back({(s + 3) % kCount, s == 0 ? 150 : kLength - 1 - 7 * s, 1});
      }
      for (const int lanes : {1, 2, 3}) {
        const OwnedTensor a = shared.step(decode, lanes);
        const OwnedTensor b = copied.step(decode, lanes);
        for (int32_t s = 0; s < kCount; ++s) {
          const OwnedTensor alone = copied.step({decode[static_cast<size_t>(s)]}, 1);
          ASSERT_EQ(a.bits(s), b.bits(s)) << "row " << s << ", " << blocks << " blocks";
          ASSERT_EQ(a.bits(s), alone.bits(0)) << "row " << s << ", " << blocks << " blocks";
        }
      }
    }
  }
}

// Heads that share keys and values are computed several at once, up to a tile and beyond a task:
// all the same query, all the same bits, in chunks of every number of rows.
TEST_P(Attention, HeadsBitsDoNotDependOnItsPlaceInTheGroup) {
  constexpr int64_t kLength = 530;
  constexpr int64_t kDim = 24;
  for (const int64_t group : {2, 3, 4, 5, 6, 7, 8, 9, 15, 17, 40, 71}) {
    Setting sequences = setting(shape_of(kDim, group, 1), kLength);
    sequences.repeat_first_query();
    sequences.step({{0, 0, kLength - 2}}, 2);
    const OwnedTensor out = sequences.step({{0, kLength - 2, 2}}, 1);
    for (int64_t row = 0; row < 2; ++row) {
      for (int64_t c = kDim; c < group * kDim; ++c) {
        ASSERT_EQ(out.at(row, c), out.at(row, c % kDim)) << "head " << c / kDim << " of " << group;
      }
    }
  }
}

TEST_P(Attention, WhatARecycledBlockHeldChangesNothing) {
  for (const int64_t window : {0, 40}) {
    const AttentionShape shape = shape_of(32, 2, 1, window);
    for (const int64_t length : {1, 33, 200}) {
      Setting clean = setting(shape, length, 0.0f);
      Setting recycled = setting(shape, length, kNan);
      const OwnedTensor a = clean.step({{0, 0, length}}, 1);
      const OwnedTensor b = recycled.step({{0, 0, length}}, 1);
      for (int64_t row = 0; row < length; ++row) ASSERT_EQ(a.bits(row), b.bits(row));
    }
  }
}

// The bit tests above must be able to fail: the same keys in another order have other bits.
TEST_P(Attention, AnotherOrderOfTheKeysHasOtherBits) {
  if (test::sums_in_double(*GetParam().kernels)) GTEST_SKIP() << "sums in double";
  const AttentionShape shape = shape_of(64, 4, 2);
  Setting sequences = setting(shape, 200);
  Setting exchanged = setting(shape, 200);
  exchanged.exchange_tokens(0, 3, 150);
  EXPECT_NE(sequences.step({{0, 0, 200}}, 1).bits(199), exchanged.step({{0, 0, 200}}, 1).bits(199));
}

// A model that has gone wrong is noticed where its sequence is read, too.
TEST_P(Attention, AValueThatIsNoNumberIsSeenByAllBehindIt) {
  for (const int64_t heads : {2, 20}) {  // rows, and a tile
    Setting sequences = setting(shape_of(32, heads, 1), 40);
    sequences.spoil_value(0, 5);
    const OwnedTensor out = sequences.step({{0, 0, 40}}, 1);
    for (const int64_t row : {5, 20, 39}) {
      for (int64_t head = 0; head < heads; ++head) {
        EXPECT_TRUE(std::isnan(out.at(row, head * 32 + 3))) << row << " of head " << head;
      }
    }
  }
}

// Row 31 sees all of the first block; among others it is in a tile of which some do not.
TEST_P(Attention, AKeyThatIsNoNumberIsTheSameToARowAloneAndAmongOthers) {
  Setting sequences = setting(shape_of(32, 20, 1), 40);
  sequences.spoil_key(0, 5);
  const auto among_others = sequences.step({{0, 0, 40}}, 1).bits(31);
  EXPECT_EQ(sequences.step({{0, 31, 1}}, 1).bits(0), among_others);
}

TEST_P(Attention, ScoresFarApartNeitherOverflowNorVanish) {
  AttentionShape shape = shape_of(64, 2, 1);
  shape.scale = 300.0f;  // scores of thousands
  Setting sequences = setting(shape, 700);
  const OwnedTensor out = sequences.step({{0, 0, 700}}, 2);
  for (int64_t row = 0; row < 700; ++row) {
    for (int64_t c = 0; c < 128; ++c) {
      ASSERT_LE(std::fabs(out.at(row, c)), 1.0f + 0x1p-7f) << row;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, Attention, testing::ValuesIn(cases()),
                         [](const auto& test) { return name_of(test.param); });

}  // namespace
}  // namespace tidemill

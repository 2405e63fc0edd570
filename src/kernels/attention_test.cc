// rotate_and_store and attention: the way of a token's key and value into a block and back.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <ostream>
#include <string>

#include "kernels/test_tensors.h"

namespace tidemill {
namespace {

using test::on_lanes;
using test::OwnedTensor;
using test::Random;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Case {
  const Kernels* kernels;
  DType type;
};

std::string name_of(const Case& test_case) {
  const char* type = test_case.type == DType::kF32    ? "_f32"
                     : test_case.type == DType::kBf16 ? "_bf16"
                                                      : "_int8";
  return test::label(*test_case.kernels) + type;
}

void PrintTo(const Case& test_case, std::ostream* out) { *out << name_of(test_case); }

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Kernels* kernels : runnable_implementations()) {
    all.push_back({kernels, DType::kF32});
    all.push_back({kernels, DType::kBf16});
    all.push_back({kernels, DType::kInt8});
  }
  return all;
}

float rounded(DType type, float value) {
  return type == DType::kF32 ? value : to_float(to_bf16(value));
}

// What queries have.
DType query_type(DType type) { return type == DType::kInt8 ? DType::kF32 : type; }

// The scale of int8 numbers, rounded up to bf16.
float scale_of(float largest) {
  const float scale = largest / 127.0f;
  const float nearest = to_float(to_bf16(scale));
  return nearest >= scale ? nearest
                          : to_float(Bf16{static_cast<uint16_t>(to_bf16(scale).bits + 1)});
}

// Angles of zero: rotation leaves everything as it is.
struct NoRotation {
  explicit NoRotation(int64_t positions, int64_t head_dim)
      : cos(static_cast<size_t>(positions * head_dim / 2), 1.0f), sin(cos.size(), 0.0f) {}
  Rotary view() const { return {.cos = cos.data(), .sin = sin.data()}; }
  std::vector<float> cos, sin;
};

// A cache whose every block is recycled: full of NaN. Sequences get scattered blocks.
class Cache {
 public:
  Cache(DType type, const AttentionShape& shape, int64_t num_blocks, float content)
      : memory_(
            DType::kF32, num_blocks,
            static_cast<int64_t>(kv_block_bytes(type, shape.num_kv_heads, shape.head_dim)) / 4) {
    memory_.fill(content);
    layer_ = {.data = static_cast<unsigned char*>(memory_.view().data),
              .block_stride = static_cast<size_t>(memory_.view().stride) * 4,
              .type = type};
  }
  const KvLayer& layer() const { return layer_; }

 private:
  OwnedTensor memory_;
  KvLayer layer_;
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

AttentionShape shape_of(int64_t head_dim, int64_t heads, int64_t kv_heads, int64_t window = 0) {
  return {.num_heads = heads,
          .num_kv_heads = kv_heads,
          .head_dim = head_dim,
          .scale = 2.0f / std::sqrt(static_cast<float>(head_dim)),
          .window = window};
}

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

// Forty tokens of one sequence with real angles and a norm on the keys.
class RotateAndStore : public testing::TestWithParam<Case> {
 protected:
  static constexpr int32_t kRows = 40;

  void randomize(int64_t dim) {
    const auto width = static_cast<double>(dim);
    Random random(9);
    test::randomize(qkv_ = OwnedTensor(DType::kF32, kRows, 7 * dim), random);
    for (int64_t i = 0; i < kRows * dim / 2; ++i) {
      const double exponent = -2.0 * static_cast<double>(i % (dim / 2)) / width;
      const double angle = static_cast<double>(i / (dim / 2)) * std::pow(1e4, exponent);
      cos_.push_back(static_cast<float>(std::cos(angle)));
      sin_.push_back(static_cast<float>(std::sin(angle)));
    }
    for (int64_t d = 0; d < dim; ++d) k_norm_.push_back(1.0f + 0.5f * test::uniform(random));
  }

  void call(const AttentionShape& shape, const OwnedTensor& q, const KvLayer& layer) {
    std::vector<int32_t> positions(kRows);
    std::iota(positions.begin(), positions.end(), 0);
    const std::vector<int32_t> table_begins(kRows, 0);
    const std::vector<int32_t> block_ids = {1, 0};
    const TokenRows rows{.count = kRows,
                         .positions = positions.data(),
                         .table_begins = table_begins.data(),
                         .block_ids = block_ids.data()};
    const Rotary rotary{
        .cos = cos_.data(), .sin = sin_.data(), .k_norm = k_norm_.data(), .norm_epsilon = 1e-6f};
    on_lanes(3, [&](Lane& lane) {
      GetParam().kernels->rotate_and_store(lane, qkv_.view(), shape, rotary, rows, q.view(), layer);
    });
  }

  // Element d of a head of the row, rotated; `scale` is what a norm multiplies element i by.
  double rotated(int64_t row, int64_t head, int64_t dim, int64_t d,
                 const std::function<double(int64_t)>& scale) const {
    const auto x = [&](int64_t i) { return qkv_.at(row, head * dim + i) * scale(i); };
    const auto angle = static_cast<size_t>(row * (dim / 2) + d % (dim / 2));
    const double other = d < dim / 2 ? -x(d + dim / 2) : x(d - dim / 2);
    return x(d) * cos_[angle] + other * sin_[angle];
  }

  double normed_key(int64_t row, int64_t head, int64_t dim, int64_t d) const {
    double squares = 0.0;
    for (int64_t i = 0; i < dim; ++i) squares += std::pow(qkv_.at(row, head * dim + i), 2.0);
    const double root = std::sqrt(squares / static_cast<double>(dim) + 1e-6);
    return rotated(row, head, dim, d,
                   [&](int64_t i) { return k_norm_[static_cast<size_t>(i)] / root; });
  }

  OwnedTensor qkv_{DType::kF32, 1, 1};
  std::vector<float> cos_, sin_, k_norm_;
};

// Where kv_layout.h puts element d of token t, in elements of a run.
int64_t k_index(DType type, int64_t dim, int64_t t, int64_t d) {
  if (type == DType::kF32) return (t / 16 * dim + d) * 16 + t % 16;
  return ((t / 16 * (dim / 2) + d / 2) * 16 + t % 16) * 2 + d % 2;
}

int64_t v_index(DType type, int64_t t, int64_t d) {
  if (type == DType::kF32) return (d / 16 * 32 + t) * 16 + d % 16;
  return ((d / 16 * 16 + t / 2) * 16 + d % 16) * 2 + t % 2;
}

float stored(const KvLayer& layer, int64_t position, int64_t run_offset, int64_t index) {
  const int64_t block = 1 - position / kTokensPerBlock;  // the table above: 1, 0
  const unsigned char* run =
      layer.data + static_cast<size_t>(block) * layer.block_stride + run_offset;
  if (layer.type == DType::kF32) return reinterpret_cast<const float*>(run)[index];
  return to_float(Bf16{reinterpret_cast<const uint16_t*>(run)[index]});
}

TEST_P(RotateAndStore, NormalisesRotatesHalvesAndStoresByTheLayout) {
  const DType type = GetParam().type;
  if (type == DType::kInt8) GTEST_SKIP() << "the next test's";
  const double unit = type == DType::kF32 ? 8 * 0x1p-24 : 0x1p-8;  // relative rounding
  for (const int64_t dim : {16, 24, 64}) {
    const AttentionShape shape = shape_of(dim, 3, 2);
    randomize(dim);
    const Cache cache(type, shape, 2, kNan);
    OwnedTensor q(type, kRows, 3 * dim);
    q.fill(kNan);
    call(shape, q, cache.layer());
    const auto k_bytes = static_cast<int64_t>(k_run_bytes(type, dim));
    const int64_t head_bytes = k_bytes + static_cast<int64_t>(v_run_bytes(type, dim));
    for (int64_t row = 0; row < kRows; ++row) {
      const int64_t t = row % kTokensPerBlock;
      for (int64_t d = 0; d < dim; ++d) {
        for (int64_t head = 0; head < 3; ++head) {
          const double expected = rotated(row, head, dim, d, [](int64_t) { return 1.0; });
          ASSERT_NEAR(q.at(row, head * dim + d), expected, unit * 2.0);
        }
        for (int64_t head = 0; head < 2; ++head) {
          ASSERT_NEAR(stored(cache.layer(), row, head * head_bytes, k_index(type, dim, t, d)),
                      normed_key(row, 3 + head, dim, d), unit * 4.0);
          ASSERT_EQ(stored(cache.layer(), row, head * head_bytes + k_bytes, v_index(type, t, d)),
                    rounded(type, qkv_.at(row, (5 + head) * dim + d)));
        }
      }
    }
    cos_.clear(), sin_.clear(), k_norm_.clear();
  }
}

// Half a scale is what a number may be wrong by.
TEST_P(RotateAndStore, RoundsTokensToIntegersByTheirLargestNumber) {
  if (GetParam().type != DType::kInt8) GTEST_SKIP() << "of floats";
  for (const int64_t dim : {16, 26, 64, 256}) {
    const AttentionShape shape = shape_of(dim, 3, 2);
    randomize(dim);
    for (int64_t d = 0; d < dim; ++d) qkv_.set(7, 5 * dim + d, 0.0f);  // a value of zeros
    const Cache cache(DType::kInt8, shape, 2, kNan);
    OwnedTensor q(DType::kF32, kRows, 3 * dim);
    call(shape, q, cache.layer());
    const auto k_bytes = static_cast<int64_t>(k_run_bytes(DType::kInt8, dim));
    const int64_t head_bytes = k_bytes + static_cast<int64_t>(v_run_bytes(DType::kInt8, dim));
    const auto run_of = [&](int64_t row, int64_t offset) {
      const int64_t block = 1 - row / kTokensPerBlock;
      return cache.layer().data + static_cast<size_t>(block) * cache.layer().block_stride + offset;
    };
    const auto scale_at = [&](const unsigned char* scales, int64_t t) {
      return static_cast<double>(to_float(Bf16{reinterpret_cast<const uint16_t*>(scales)[t]}));
    };
    for (int64_t row = 0; row < kRows; ++row) {
      const int64_t t = row % kTokensPerBlock;
      for (int64_t head = 0; head < 2; ++head) {
        const unsigned char* keys = run_of(row, head * head_bytes);
        const unsigned char* values = keys + k_bytes;
        const double k_scale = scale_at(keys + k_scales_offset(dim), t);
        const double v_scale = scale_at(values + v_scales_offset(dim), t);
        int largest = 0;
        for (int64_t d = 0; d < dim; ++d) {
          const auto key = static_cast<int8_t>(
              keys[((t / 16 * ((dim + 3) / 4) + d / 4) * 16 + t % 16) * 4 + d % 4]);
          const auto value =
              static_cast<int8_t>(values[((d / 16 * 8 + t / 4) * 16 + d % 16) * 4 + t % 4]);
          largest = std::max(largest, std::abs(static_cast<int>(value)));
          ASSERT_NEAR(key * k_scale, normed_key(row, 3 + head, dim, d), 0.5001 * k_scale) << dim;
          ASSERT_NEAR(value * v_scale, qkv_.at(row, (5 + head) * dim + d), 0.5001 * v_scale) << dim;
        }
        const bool zeros = row == 7 && head == 0;
        ASSERT_TRUE(zeros ? largest == 0 && v_scale == 0.0 : largest == 126 || largest == 127)
            << largest << " of row " << row;
      }
    }
    // Behind the last token, in the block that the step began: nothing.
    const unsigned char* keys = run_of(kRows, 0);
    for (int64_t t = kRows % kTokensPerBlock; t < kTokensPerBlock; ++t) {
      ASSERT_EQ(scale_at(keys + k_scales_offset(dim), t), 0.0);
      ASSERT_EQ(scale_at(keys + k_bytes + v_scales_offset(dim), t), 0.0);
    }
    cos_.clear(), sin_.clear(), k_norm_.clear();
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, Attention, testing::ValuesIn(cases()),
                         [](const auto& test) { return name_of(test.param); });
INSTANTIATE_TEST_SUITE_P(Variants, RotateAndStore, testing::ValuesIn(cases()),
                         [](const auto& test) { return name_of(test.param); });

}  // namespace
}  // namespace tidemill

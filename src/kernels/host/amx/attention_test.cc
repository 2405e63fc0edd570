// Attention on tiles: the processor's instructions against plain tiles, bit for bit, where there is
// AVX-512 beside them (instructions that the processor lacks are done by their handler).
// What attention means is tested in kernels/attention_test.cc, for this variant, too.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <numbers>
#include <numeric>
#include <vector>

#include "kernels/attention_cases.h"
#include "kernels/host/amx/products.h"
#include "kernels/host/amx/test_tiles.h"
#include "kernels/host/attention_driver.h"
#include "kernels/test_tensors.h"

namespace tidemill {
namespace {

struct Shape {
  int64_t queries, head_dim;
  int64_t begin, end;  // blocks
  int32_t window;      // tokens that a query sees; 0: all before it
};

// Rows alone, tiles that are not full, heads that end within a tile, groups that are not whole.
constexpr Shape kShapes[] = {{1, 64, 0, 5, 0},   {3, 80, 0, 7, 0},    {4, 64, 0, 4, 0},
                             {16, 128, 0, 9, 0}, {17, 48, 0, 6, 0},   {64, 64, 0, 16, 0},
                             {33, 96, 3, 11, 0}, {21, 64, 2, 9, 90},  {64, 72, 0, 3, 0},
                             {48, 128, 0, 9, 0}, {64, 64, 1, 13, 70}, {32, 63, 0, 5, 0}};

using Attend = void (*)(const AttentionTask&);

// The states of a task's queries, which had seen no key before.
std::vector<float> states_after(Attend attend, AttentionTask task) {
  const int64_t bytes = state_bytes(sizeof(float), task.head_dim);
  const Buffer states =
      select_kernels("auto").allocate(static_cast<size_t>(bytes * task.num_queries));
  auto* data = static_cast<unsigned char*>(states.data());
  task.states = data;
  test::on_lanes(1, [&](Lane&) {  // a worker's MXCSR
    for (int64_t i = 0; i < task.num_queries; ++i) {
      avx512::clear_state(data + i * bytes, padded_head_dim(task.head_dim));
    }
    attend(task);
    amx::release_tiles();
  });
  std::vector<float> floats(static_cast<size_t>(bytes * task.num_queries / 4));
  std::memcpy(floats.data(), data, floats.size() * 4);
  return floats;
}

// Queries of a chunk that ends with the last block, keys and values at random.
class Task {
 public:
  explicit Task(const Shape& shape, DType type = DType::kBf16)
      : shape_(shape),
        k_bytes_(static_cast<int64_t>(k_run_bytes(type, shape.head_dim))),
        v_bytes_(static_cast<int64_t>(v_run_bytes(type, shape.head_dim))),
        blocks_(numbers((k_bytes_ + v_bytes_) * shape.end / 2)),
        queries_(numbers(shape.queries * shape.head_dim + 1)),
        float_queries_(DType::kF32, shape.queries, shape.head_dim) {
    if (type == DType::kInt8) make_integers();
    for (int64_t i = 0; i < shape.queries; ++i) {
      q_.push_back(type == DType::kInt8 ? static_cast<const void*>(float_query(i))
                                        : queries_.data() + i * shape.head_dim);
      const auto last = static_cast<int32_t>(shape.end * kTokensPerBlock - shape.queries + i);
      last_.push_back(last);
      first_.push_back(shape.window == 0 ? 0 : std::max(0, last + 1 - shape.window));
    }
    for (int64_t i = 0; i < shape.end; ++i) ids_.push_back(static_cast<int32_t>(i));
  }

  std::vector<float> states_of(Attend attend) const {
    const auto* keys = reinterpret_cast<const unsigned char*>(blocks_.data());
    return states_after(attend, {.num_queries = shape_.queries,
                                 .q = q_.data(),
                                 .first = first_.data(),
                                 .last = last_.data(),
                                 .block_ids = ids_.data(),
                                 .begin = shape_.begin,
                                 .end = shape_.end,
                                 .sequence_end = shape_.end,
                                 .keys = keys,
                                 .values = keys + k_bytes_,
                                 .block_stride = k_bytes_ + v_bytes_,
                                 .bundle_stride = kBundleBlocks * (k_bytes_ + v_bytes_),
                                 .head_dim = shape_.head_dim,
                                 .scale = 0.1f});
  }

 private:
  float* float_query(int64_t i) {
    const Tensor& all = float_queries_.view();
    return static_cast<float*>(all.data) + i * all.stride;
  }

  // Bytes of any value, and scales, one of which is far above the others.
  void make_integers() {
    test::Random random(3);
    test::randomize(float_queries_, random);
    auto* const bytes = reinterpret_cast<unsigned char*>(blocks_.data());
    const auto k_scales = static_cast<int64_t>(k_scales_offset(shape_.head_dim));
    const auto v_scales = static_cast<int64_t>(v_scales_offset(shape_.head_dim));
    for (int64_t block = 0; block < shape_.end; ++block) {
      unsigned char* const run = bytes + block * (k_bytes_ + v_bytes_);
      for (int64_t i = 0; i < k_bytes_ + v_bytes_; ++i) {
        run[i] = static_cast<unsigned char>(static_cast<int>(test::uniform(random) * 127.0f));
      }
      for (int64_t t = 0; t < kTokensPerBlock; ++t) {
        const float scale = 0.01f + 0.01f * std::abs(test::uniform(random));
        set_scale(run + k_scales, t, scale);
        set_scale(run + k_bytes_ + v_scales, t, block == 1 && t == 5 ? 100.0f : scale);
      }
    }
  }
  static void set_scale(unsigned char* scales, int64_t token, float scale) {
    const uint16_t bits = to_bf16(scale).bits;
    std::memcpy(scales + 2 * token, &bits, sizeof(bits));
  }

  static std::vector<uint16_t> numbers(int64_t count) {
    test::Random random(static_cast<uint64_t>(count));
    std::vector<uint16_t> result;
    for (int64_t i = 0; i < count; ++i) result.push_back(to_bf16(test::uniform(random)).bits);
    return result;
  }

  const Shape shape_;
  const int64_t k_bytes_, v_bytes_;
  std::vector<uint16_t> blocks_;
  const std::vector<uint16_t> queries_;
  test::OwnedTensor float_queries_;
  std::vector<const void*> q_;
  std::vector<int32_t> first_, last_, ids_;
};

using TileAttention = test::TileInstructions;

TEST_F(TileAttention, HasThePlainTilesBits) {
  for (const Shape& shape : kShapes) {
    const Task task(shape);
    const std::vector<float> states = task.states_of(amx::attend_bf16);
    const std::vector<float> plain = task.states_of(amx_emulated::attend_bf16_with_avx512);
    ASSERT_EQ(states.size(), plain.size());
    EXPECT_EQ(std::memcmp(states.data(), plain.data(), states.size() * sizeof(float)), 0)
        << shape.queries << " queries of " << shape.head_dim;
  }
}

// Tiles that are not full and heads that no tile holds, which stay with AVX-512; rows alone.
constexpr Shape kIntegerShapes[] = {{64, 64, 0, 16, 0},   {63, 128, 0, 9, 0},  {17, 64, 0, 6, 0},
                                    {12, 64, 3, 11, 0},   {45, 64, 2, 9, 90},  {64, 64, 1, 13, 40},
                                    {33, 192, 0, 5, 0},   {64, 256, 0, 7, 70}, {16, 80, 0, 5, 0},
                                    {64, 128, 8, 16, 33}, {5, 64, 0, 7, 0}};

void expect_same_states(const Shape& shape, Attend attend, Attend expected) {
  const Task task(shape, DType::kInt8);
  const std::vector<float> states = task.states_of(attend);
  const std::vector<float> others = task.states_of(expected);
  ASSERT_EQ(states.size(), others.size());
  EXPECT_EQ(std::memcmp(states.data(), others.data(), states.size() * sizeof(float)), 0)
      << shape.queries << " queries of " << shape.head_dim;
  EXPECT_TRUE(std::ranges::all_of(states, [](float x) { return std::isfinite(x); }));
}

TEST_F(TileAttention, OfIntegersHasTheBitsOfAvx512) {
  if (!__builtin_cpu_supports("avx512vnni")) GTEST_SKIP() << "no VNNI, which rows use";
  for (const Shape& shape : kIntegerShapes) {
    expect_same_states(shape, amx::attend_int8, avx512vnni::attend_int8);
  }
}

TEST(PlainTileAttention, OfIntegersHasTheBitsOfAvx512) {
  if (!test::runs_here("avx512")) GTEST_SKIP() << "no AVX-512";
  for (const Shape& shape : kIntegerShapes) {
    expect_same_states(shape, amx_emulated::attend_int8_with_avx512, avx512::attend_int8);
  }
}

// Token t has the key (-t, 0, ..) and a 1 in its own dim of the values, so that a query's state has
// its probability there.
TEST_F(TileAttention, ProbabilitiesAreTheNearestOfTheirType) {
  constexpr int64_t kDim = kTokensPerBlock;
  constexpr double kError = 1.2e-4;  // of the polynomial, 9e-5, and of rounding exponents up to 128
  const uint16_t one = to_bf16(1.0f).bits;
  std::vector<uint16_t> keys(kDim * kTokensPerBlock), values(kDim * kTokensPerBlock);
  for (int64_t t = 0; t < kTokensPerBlock; ++t) {
    keys[t / 16 * (kDim * 16) + t % 16 * 2] = to_bf16(-static_cast<float>(t)).bits;
    values[t / 16 * (kTokensPerBlock * 16) + t / 2 * 32 + t % 16 * 2 + t % 2] = one;
  }
  std::vector<uint16_t> query(kDim);
  query[0] = one;
  const void* q = query.data();
  const int32_t first = 0, last = kTokensPerBlock - 3, block_id = 0;
  for (float scale = 0.001f; scale < 5.0f; scale *= 1.07f) {
    AttentionTask task{.num_queries = 1,
                       .q = &q,
                       .first = &first,
                       .last = &last,
                       .block_ids = &block_id,
                       .begin = 0,
                       .end = 1,
                       .sequence_end = 1,
                       .keys = reinterpret_cast<const unsigned char*>(keys.data()),
                       .values = reinterpret_cast<const unsigned char*>(values.data()),
                       .head_dim = kDim,
                       .scale = scale};
    const std::vector<float> state = states_after(amx::attend_bf16, task);
    EXPECT_EQ(state[kStateHeader], 1.0f) << "of the maximum itself, scale " << scale;
    double sum = 0.0;
    for (int64_t t = 0; t < kTokensPerBlock; ++t) {
      const float p = state[kStateHeader + t];
      const double log2 = -static_cast<double>(t) * scale * std::numbers::log2e;
      SCOPED_TRACE(testing::Message() << "token " << t << ", scale " << scale);
      if (t > last || log2 < -126.01) {
        EXPECT_EQ(p, 0.0f) << "not attended, or no normal number";
      } else if (log2 > -125.99) {
        EXPECT_NEAR(p, std::exp2(log2), std::exp2(std::floor(log2) - 8) + kError * std::exp2(log2));
      }
      sum += p;
    }
    EXPECT_NEAR(state[1], sum, 1e-6 * sum);
  }
}

std::atomic<int> num_ended{0};
void count_end() { ++num_ended; }

constexpr Inner kCounting = [] {
  Inner inner{};
  inner.attention = {sizeof(double),         reference::attend_f32,  reference::attend_bf16,
                     reference::attend_int8, reference::clear_state, reference::merge_state,
                     reference::finish_state};
  inner.end_share = count_end;
  return inner;
}();

// One query of two heads: two lanes have a head each, with three a head's partitions are cut.
TEST(TileShares, EveryLaneGivesUpItsTilesOnceAnAttention) {
  constexpr int64_t kBlocks = 3 * kPartitionBlocks;
  const AttentionShape shape = test::shape_of(32, 2, 2);
  const test::Cache cache(DType::kF32, shape, kBlocks, 0.0f);
  std::vector<int32_t> block_ids(kBlocks);
  std::iota(block_ids.begin(), block_ids.end(), 0);
  const int32_t position = kBlocks * kTokensPerBlock - 1;
  const int32_t table_begin = 0;
  const TokenRows rows{.count = 1,
                       .positions = &position,
                       .table_begins = &table_begin,
                       .block_ids = block_ids.data()};
  const Kernels& kernels = select_kernels("reference");
  const Buffer buffer =
      kernels.allocate(static_cast<size_t>(attention_memory_bytes(shape, 1, position + 1)));
  const AttentionMemory memory{buffer.data(), static_cast<int64_t>(buffer.bytes())};
  test::OwnedTensor q(DType::kF32, 1, 64);
  test::OwnedTensor out(DType::kF32, 1, 64);
  for (const int lanes : {1, 2, 3}) {
    num_ended = 0;
    test::on_lanes(lanes, [&](Lane& lane) {
      host::plan_attention<kCounting>(lane, shape, rows, memory);
      host::attention<kCounting>(lane, q.view(), shape, rows, cache.layer(), memory, out.view());
    });
    EXPECT_EQ(num_ended, lanes);
    EXPECT_EQ(host::attention_plan(memory).has_cut_unit, lanes == 3);
  }
}

}  // namespace
}  // namespace tidemill

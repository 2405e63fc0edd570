#include "model/decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "kernels/select.h"
#include "kernels/test_tensors.h"
#include "model/random_engine_dir.h"
#include "parallel/worker_pool.h"

namespace tidemill {
namespace {

constexpr int64_t kMaxTokens = 96;

// Every optional part of the network, and sizes that fill neither panels nor blocks.
Architecture small() {
  Architecture a;
  a.family = "qwen3";
  a.hidden_size = 40;
  a.num_layers = 2;
  a.num_heads = 4;
  a.num_kv_heads = 2;
  a.head_dim = 12;
  a.intermediate_size = 56;
  a.vocab_size = 53;
  a.max_positions = kMaxTokens;
  a.qkv_bias = a.output_bias = a.mlp_bias = a.qk_norm = true;
  a.sliding_window = 40;
  return a;
}

RandomEngineDir random_engine(PackedFormat format) {
  return RandomEngineDir(small(), format, /*seed=*/7, /*gain=*/1.7f);
}

// A part of one sequence in a step: `count` tokens from position `first` on.
struct Part {
  int sequence = 0;
  int64_t first = 0;
  int64_t count = 0;
};

// Sequence s has the tokens (position * 7 + s * 3 + 1) mod 53 and four blocks of its own.
ForwardInput input_of(const std::vector<Part>& parts) {
  constexpr int32_t kBlocksPerSequence = kMaxTokens / kTokensPerBlock + 1;
  ForwardInput input;
  input.groups.resize(1);
  for (const Part& part : parts) {
    const auto begin = static_cast<int32_t>(input.groups[0].block_ids.size());
    for (int32_t block = 0; block < kBlocksPerSequence; ++block) {
      input.groups[0].block_ids.push_back((part.sequence + 1) * kBlocksPerSequence - 1 - block);
    }
    for (int64_t position = part.first; position < part.first + part.count; ++position) {
      input.score_rows.push_back(static_cast<int32_t>(input.token_ids.size()));
      input.token_ids.push_back(static_cast<TokenId>((position * 7 + part.sequence * 3 + 1) % 53));
      input.positions.push_back(static_cast<int32_t>(position));
      input.groups[0].table_begins.push_back(begin);
    }
  }
  return input;
}

// One of each kind; head and embedding follow from it.
constexpr PackedFormat kFormats[] = {PackedFormat::kF32,
                                     PackedFormat::kBf16,
                                     PackedFormat::kInt8PerChannel,
                                     {Numbers::kInt8, Offsets::kNone, 32},
                                     {Numbers::kInt4, Offsets::kZero, 64},
                                     {Numbers::kInt4, Offsets::kOffset, 32}};

class DecoderRows : public testing::TestWithParam<const Kernels*> {
 protected:
  // Logits of the last token of `sequence` after the given steps.
  std::vector<float> last_logits(const std::vector<std::vector<Part>>& steps, int num_threads,
                                 PackedFormat format = PackedFormat::kF32,
                                 const ModelOptions& options = {}) {
    return last_logits(steps, num_threads, format, *GetParam(), options);
  }
  static std::vector<float> last_logits(const std::vector<std::vector<Part>>& steps,
                                        int num_threads, const PackedFormat& format,
                                        const Kernels& kernels, const ModelOptions& options = {}) {
    const RandomEngineDir engine = random_engine(format);
    const Model model(engine.dir(), options);
    WorkerPool pool({.num_threads = num_threads, .pin = false});
    KvCache cache(kernels, model.architecture(), model.compute_types().cache(), 16);
    Communicator communicator;
    Decoder decoder(kernels, model, cache, communicator,
                    {.max_model_len = kMaxTokens,
                     .max_step_tokens = 2 * kMaxTokens,
                     .max_score_rows = 2 * kMaxTokens});
    for (const std::vector<Part>& parts : steps) {
      const ForwardInput input = input_of(parts);
      pool.run([&](Lane& lane) { decoder.forward(lane, input); });
    }
    const Tensor logits = decoder.logits();
    EXPECT_EQ(logits.cols, 53);
    const float* row = static_cast<const float*>(logits.data) + (logits.rows - 1) * logits.stride;
    return {row, row + logits.cols};
  }
  std::vector<std::vector<Part>> one_by_one(int64_t first, int64_t count) {
    std::vector<std::vector<Part>> steps;
    for (int64_t i = first; i < first + count; ++i) steps.push_back({{0, i, 1}});
    return steps;
  }
};

TEST_P(DecoderRows, AreTheSameBitsHoweverThePromptIsCutWithKeysAndValuesOfInt8) {
  const ModelOptions int8{.int8_cache = true};
  for (const PackedFormat& format : {PackedFormat::kF32, PackedFormat::kBf16}) {
    const std::vector<float> whole = last_logits({{{0, 0, 71}}}, 1, format, int8);
    const std::vector<float> floats = last_logits({{{0, 0, 71}}}, 1, format);
    EXPECT_NE(whole, floats);
    for (size_t i = 0; i < whole.size(); ++i) EXPECT_NEAR(whole[i], floats[i], 0.2f);
    EXPECT_EQ(last_logits({{{0, 0, 33}}, {{0, 33, 38}}}, 2, format, int8), whole);
    EXPECT_EQ(last_logits(one_by_one(0, 71), 1, format, int8), whole);
    EXPECT_EQ(last_logits({{{1, 0, 20}, {0, 0, 50}}, {{1, 20, 3}, {0, 50, 21}}}, 1, format, int8),
              whole);
  }
}

TEST_P(DecoderRows, AreTheSameBitsHoweverThePromptIsCut) {
  for (const PackedFormat& format : kFormats) {
    SCOPED_TRACE(test::label(format));
    const std::vector<float> whole = last_logits({{{0, 0, 71}}}, 1, format);
    ASSERT_TRUE(std::isfinite(whole[0]));
    EXPECT_NE(whole[0], whole[1]);
    EXPECT_EQ(last_logits({{{0, 0, 33}}, {{0, 33, 38}}}, 1, format), whole);
    EXPECT_EQ(last_logits({{{0, 0, 70}}, {{0, 70, 1}}}, 1, format), whole);
    EXPECT_EQ(last_logits(one_by_one(0, 71), 1, format), whole);
  }
}

TEST_P(DecoderRows, AreTheSameBitsWithAnyNeighboursAndWorkers) {
  for (const PackedFormat& format : kFormats) {
    SCOPED_TRACE(test::label(format));
    const std::vector<float> alone = last_logits({{{0, 0, 71}}}, 1, format);
    EXPECT_EQ(last_logits({{{0, 0, 71}}}, 2, format), alone);
    EXPECT_EQ(last_logits({{{1, 0, 50}, {2, 0, 3}, {0, 0, 71}}}, 1, format), alone);
    EXPECT_EQ(last_logits({{{0, 0, 40}, {1, 0, 9}}, {{1, 9, 1}, {0, 40, 31}}}, 2, format), alone);
  }
}

// Many rows are dealt out to lanes, a few together go through each product: 133 rows are the one
// for up to two lanes, and the other for three.
TEST_P(DecoderRows, AreTheSameBitsInStripsOfAnyLane) {
  constexpr ModelOptions kTwoRuns{.activation_bits = 16};
  constexpr ModelOptions kInt8Cache{.int8_cache = true};
  for (const ModelOptions& options : {ModelOptions{}, kTwoRuns, kInt8Cache}) {
    for (const PackedFormat& format : kFormats) {
      SCOPED_TRACE(test::label(format));
      const std::vector<Part> parts = {{1, 0, 91}, {0, 0, 42}};
      const std::vector<float> together = last_logits({parts}, 3, format, options);
      EXPECT_EQ(last_logits({parts}, 1, format, options), together);
      EXPECT_EQ(last_logits({parts}, 2, format, options), together);
      const std::vector<std::vector<Part>> with_next = {parts, {{1, 91, 1}, {0, 42, 1}}};
      EXPECT_EQ(last_logits(with_next, 2, format, options),
                last_logits(with_next, 3, format, options));
    }
  }
}

TEST_P(DecoderRows, AreTheSameBitsInStripsThatLanesTakeTogether) {
  for (const PackedFormat& format : kFormats) {
    SCOPED_TRACE(test::label(format));
    Kernels kernels = *GetParam();
    const std::vector<Part> parts = {{1, 0, 91}, {0, 0, 42}};
    const std::vector<std::vector<Part>> steps = {parts, {{1, 91, 1}, {0, 42, 1}}};
    kernels.strip = {.rows = 1000, .multiple_of = 4};
    const std::vector<float> one = last_logits(steps, 2, format, kernels);
    for (const int64_t rows : {1, 40, 89, 133}) {
      kernels.strip.rows_together = rows;
      EXPECT_EQ(last_logits(steps, 2, format, kernels), one) << rows << " rows together";
    }
  }
}

// An odd number of rows that fills the step, several strips for each lane: there is scratch space
// for shares of the smaller size only.
TEST_P(DecoderRows, AreTheSameBitsInStripsOfAFullStep) {
  constexpr int64_t kRows = 257;
  const RandomEngineDir engine = random_engine(PackedFormat::kInt8PerChannel);
  const Model model(engine.dir());
  std::vector<Part> parts;
  for (int64_t begin = 0; begin < kRows; begin += kMaxTokens) {
    const auto sequence = static_cast<int>(begin / kMaxTokens);
    parts.push_back({sequence, 0, std::min(kMaxTokens, kRows - begin)});
  }
  const ForwardInput input = input_of(parts);
  std::vector<std::vector<float>> logits;
  for (const int num_threads : {1, 2, 3}) {
    WorkerPool pool({.num_threads = num_threads, .pin = false});
    KvCache cache(*GetParam(), model.architecture(), model.compute_types().cache(), 16);
    Communicator communicator;
    Decoder decoder(
        *GetParam(), model, cache, communicator,
        {.max_model_len = kMaxTokens, .max_step_tokens = kRows, .max_score_rows = kRows});
    for (int run = 0; run < 3; ++run) {
      pool.run([&](Lane& lane) { decoder.forward(lane, input); });
      std::vector<float>& all = logits.emplace_back();
      for (int64_t row = 0; row < decoder.logits().rows; ++row) {
        const float* begin =
            static_cast<const float*>(decoder.logits().data) + row * decoder.logits().stride;
        all.insert(all.end(), begin, begin + decoder.logits().cols);
      }
    }
  }
  for (const std::vector<float>& other : logits) EXPECT_EQ(other, logits[0]);
}

// The comparisons above must be able to fail.
TEST_P(DecoderRows, DependOnTheTokensBefore) {
  EXPECT_NE(last_logits({{{0, 0, 71}}}, 1), last_logits({{{1, 0, 71}}}, 1));
  const auto skipped = last_logits({{{0, 0, 70}}, {{0, 71, 1}}}, 1);
  EXPECT_NE(skipped, last_logits({{{0, 0, 72}}}, 1)) << "position 70 was never computed";
}

TEST_P(DecoderRows, AStepMayAskForNoLogits) {
  const RandomEngineDir engine = random_engine(PackedFormat::kF32);
  const Model model(engine.dir());
  WorkerPool pool({.num_threads = 1, .pin = false});
  KvCache cache(*GetParam(), model.architecture(), model.compute_types().cache(), 4);
  Communicator communicator;
  Decoder decoder(*GetParam(), model, cache, communicator,
                  {.max_model_len = 32, .max_step_tokens = 8, .max_score_rows = 2});
  ForwardInput input = input_of({{0, 0, 8}});
  input.score_rows.clear();
  pool.run([&](Lane& lane) { decoder.forward(lane, input); });
  EXPECT_EQ(decoder.logits().rows, 0);
  input.score_rows = {2, 7};
  pool.run([&](Lane& lane) { decoder.forward(lane, input); });
  EXPECT_EQ(decoder.logits().rows, 2);
}

// Sums of integers are exact: with the same floats around them every variant has the same logits,
// as far as norms and attention agree.
TEST_P(DecoderRows, OfIntegersAreCloseToThoseOfTheReference) {
  for (const PackedFormat& format : kFormats) {
    if (!is_integer(format)) continue;
    SCOPED_TRACE(test::label(format));
    const std::vector<float> logits = last_logits({{{0, 0, 71}}}, 2, format);
    const std::vector<float> expected =
        last_logits({{{0, 0, 71}}}, 1, format, select_kernels("reference"));
    float largest = 0.0f;
    float difference = 0.0f;
    for (size_t i = 0; i < logits.size(); ++i) {
      largest = std::max(largest, std::fabs(expected[i]));
      difference = std::max(difference, std::fabs(expected[i] - logits[i]));
    }
    // A number that is rounded the other way moves a product by a step of its scale.
    EXPECT_LT(difference, 0.05f * largest);
  }
}

// Lanes leave the last meeting in any order, and each goes on with the logits at once.
TEST_P(DecoderRows, EveryLaneSeesTheNumberOfLogitsOfItsStep) {
  const RandomEngineDir engine = random_engine(PackedFormat::kF32);
  const Model model(engine.dir());
  WorkerPool pool({.num_threads = 2, .pin = false});
  KvCache cache(*GetParam(), model.architecture(), model.compute_types().cache(), 4);
  Communicator communicator;
  Decoder decoder(*GetParam(), model, cache, communicator,
                  {.max_model_len = 32, .max_step_tokens = 8, .max_score_rows = 2});
  ForwardInput input = input_of({{0, 0, 2}});
  std::atomic<int> wrong{0};
  for (int step = 0; step < 200; ++step) {
    input.score_rows.assign(static_cast<size_t>(step % 3), 0);
    pool.run([&](Lane& lane) {
      decoder.forward(lane, input);
      wrong += decoder.logits().rows != step % 3;
    });
  }
  EXPECT_EQ(wrong, 0);
}

INSTANTIATE_TEST_SUITE_P(EveryImplementationOfThisMachine, DecoderRows,
                         testing::ValuesIn(runnable_implementations()),
                         [](const auto& test) { return test::label(*test.param); });

// A sequence that grows meets the end of a huge page in each layer, but of few at a time.
TEST(KvCache, FewLayersMeetTheEndOfAHugePageInTheSameBlocks) {
  constexpr int64_t kPageBytes = 2 << 20;
  const Kernels& kernels = select_kernels("reference");
  for (const int64_t num_layers : {16, 22, 30, 80}) {
    Architecture architecture = small();
    architecture.num_layers = num_layers;
    architecture.num_kv_heads = 3;
    architecture.head_dim = 64;
    for (const int64_t num_blocks : {86, 256, 300, 1024}) {
      const KvCache cache(kernels, architecture, DType::kBf16, num_blocks);
      std::map<int64_t, int64_t> at_a_time;  // by the 32nd of a page's bytes that is filled
      for (int64_t i = 0; i < num_layers; ++i) {
        const auto begin = reinterpret_cast<uintptr_t>(cache.layer(i).data) % kPageBytes;
        ++at_a_time[static_cast<int64_t>(begin) / (kPageBytes / 32)];
      }
      for (const auto& [place, count] : at_a_time) {
        EXPECT_LE(count, num_layers / 32 + 2)
            << num_layers << " layers of " << num_blocks << " blocks, place " << place;
      }
    }
  }
}

// Told to a kernel menu that only remembers; the memory stays untouched.
struct Touched {
  std::mutex mutex;  // of those who touch
  std::map<uintptr_t, size_t> pieces;
  size_t bytes() const {
    size_t sum = 0;
    for (const auto& [begin, count] : pieces) sum += count;
    return sum;
  }
};
Touched touched;

TEST(KvCache, BlocksAheadOfTheUsedOnesAreTouchedPieceByPiece) {
  Kernels kernels = select_kernels("reference");
  kernels.touch = [](void* data, size_t bytes) {
    const std::lock_guard lock(touched.mutex);
    touched.pieces[reinterpret_cast<uintptr_t>(data)] += bytes;
  };
  Architecture architecture = small();
  architecture.num_layers = 3;
  architecture.num_kv_heads = 3;
  architecture.head_dim = 64;
  const auto block_bytes = static_cast<size_t>(kv_bytes_per_block(architecture, DType::kBf16));
  constexpr int64_t kNumBlocks = 50'000;  // 3.6 GiB of addresses
  constexpr int64_t kAhead = int64_t{512} << 20;
  KvCache cache(kernels, architecture, DType::kBf16, kNumBlocks);
  WorkerPool workers({.num_threads = 3});

  touched.pieces.clear();
  while (cache.touch_ahead(workers, 0, kAhead)) {
    for (const auto& [begin, bytes] : touched.pieces) EXPECT_LE(bytes, size_t{2} << 20);
  }
  const size_t ahead = touched.bytes();
  EXPECT_GE(ahead, size_t{512} << 20);
  EXPECT_LE(ahead, (size_t{512} << 20) + (size_t{8} << 20));
  for (int64_t i = 0; i < architecture.num_layers; ++i) {
    auto next = reinterpret_cast<uintptr_t>(cache.layer(i).data);
    const uintptr_t end = next + ahead / 3;
    for (auto piece = touched.pieces.find(next); next < end; piece = touched.pieces.find(next)) {
      ASSERT_NE(piece, touched.pieces.end()) << "layer " << i << " has a gap";
      next += piece->second;
    }
    EXPECT_EQ(next, end) << "layer " << i;
  }

  touched.pieces.clear();
  EXPECT_FALSE(cache.touch_ahead(workers, 0, kAhead));
  // Only what 100 used blocks move the goal on.
  while (cache.touch_ahead(workers, 100, kAhead)) continue;
  const size_t for_100 = touched.bytes();
  EXPECT_LE(for_100, 100 * block_bytes + (size_t{8} << 20));
  touched.pieces.clear();
  while (cache.touch_ahead(workers, kNumBlocks - 10, kAhead)) continue;
  EXPECT_EQ(ahead + for_100 + touched.bytes(), kNumBlocks * block_bytes) << "all of it, once";
  EXPECT_FALSE(cache.touch_ahead(workers, kNumBlocks, kAhead));
}

TEST(KvCache, LayersShareNoByte) {
  const Kernels& kernels = select_kernels("reference");
  const Architecture architecture = small();
  const KvCache cache(kernels, architecture, DType::kBf16, 5);
  const KvLayer first = cache.layer(0);
  const KvLayer second = cache.layer(1);
  EXPECT_EQ(second.data - first.data, static_cast<ptrdiff_t>(first.bundle_stride));
  EXPECT_EQ(static_cast<int64_t>(2 * first.bundle_stride),
            kBundleBlocks * kv_bytes_per_block(architecture, DType::kBf16));
  EXPECT_EQ(first.type, DType::kBf16);
}

TEST(KvCache, EachHeadOfEachBlockHasBytesOfItsOwn) {
  Architecture architecture = small();
  architecture.num_kv_heads = 3;
  const KvCache cache(select_kernels("reference"), architecture, DType::kBf16, 20);
  const KvLayer layer = cache.layer(0);
  std::set<ptrdiff_t> begins;
  for (int64_t block = 0; block < 20; ++block) {
    for (int64_t head = 0; head < 3; ++head) {
      begins.insert(kv_block(layer, block, head) - layer.data);
      EXPECT_EQ((kv_block(layer, block, head) - layer.data) % layer.block_stride, 0u);
    }
  }
  EXPECT_EQ(begins.size(), 20u * 3u);
  EXPECT_EQ(*begins.begin(), 0);
  EXPECT_LE(*begins.rbegin() + static_cast<ptrdiff_t>(layer.block_stride),
            static_cast<ptrdiff_t>(3 * layer.bundle_stride));
  EXPECT_EQ(kv_block(layer, 7, 1) - kv_block(layer, 6, 1),
            static_cast<ptrdiff_t>(layer.block_stride))
      << "a sequence's neighbours are one stream";
  EXPECT_LE(kv_block(layer, 19, 2) + layer.block_stride, cache.layer(1).data);
}

TEST(Decoder, TheWorkspaceGrowsWithTheStep) {
  const Architecture architecture = small();
  const auto bytes = [&](int64_t tokens) {
    return Decoder::workspace_bytes(
        architecture, ComputeTypes{.floats = DType::kF32},
        {.max_model_len = 64, .max_step_tokens = tokens, .max_score_rows = 1});
  };
  EXPECT_GT(bytes(2) - bytes(1), 0);
  EXPECT_EQ(bytes(3) - bytes(2), bytes(2) - bytes(1));
}

}  // namespace
}  // namespace tidemill

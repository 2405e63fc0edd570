#include "model/kv_ahead.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

namespace tidemill {
namespace {

constexpr AttentionShape kShape{.num_heads = 6, .num_kv_heads = 3, .head_dim = 64};
constexpr int64_t kBlocks = 80;

// Rows of some sequences, each with a block table of its own.
struct Rows {
  std::vector<int32_t> positions, table_begins, block_ids;

  void add(const std::vector<int32_t>& blocks, int32_t first, int32_t count) {
    const auto begin = static_cast<int32_t>(block_ids.size());
    block_ids.insert(block_ids.end(), blocks.begin(), blocks.end());
    for (int32_t i = 0; i < count; ++i) {
      positions.push_back(first + i);
      table_begins.push_back(begin);
    }
  }
  TokenRows view() const {
    return {.count = static_cast<int64_t>(positions.size()),
            .positions = positions.data(),
            .table_begins = table_begins.data(),
            .block_ids = block_ids.data()};
  }
};

class KvRuns : public testing::Test {
 protected:
  KvLayer layer(DType type) {
    memory_.resize(kv_layer_bytes(type, kShape.num_kv_heads, kShape.head_dim, kBlocks));
    return kv_layer(memory_.data(), type, kShape.num_kv_heads, kShape.head_dim);
  }
  std::vector<MemoryRun> find(const KvLayer& layer, const Rows& rows, Range units,
                              const AttentionShape& shape = kShape, size_t most = 1000) {
    std::vector<MemoryRun> runs(most);
    runs.resize(find_kv_runs(shape, rows.view(), units, layer, runs));
    return runs;
  }
  std::vector<unsigned char> memory_;
};

TEST_F(KvRuns, AreTheBlocksThatTheRowsAttendToAndNoOthers) {
  std::mt19937_64 random(5);
  for (const DType type : {DType::kBf16, DType::kInt8}) {
    const KvLayer cache = layer(type);
    for (int round = 0; round < 200; ++round) {
      AttentionShape shape = kShape;
      shape.window = round % 3 == 0 ? 1 + static_cast<int64_t>(random() % 150) : 0;
      Rows rows;
      const int num_sequences = 1 + static_cast<int>(random() % 5);
      for (int i = 0; i < num_sequences; ++i) {
        std::vector<int32_t> blocks(1 + random() % 20);
        auto next = static_cast<int32_t>(random() % kBlocks);
        for (int32_t& block : blocks) {
          block = next;
          next = random() % 4 == 0 ? static_cast<int32_t>(random() % kBlocks)
                                   : static_cast<int32_t>((next + 1) % kBlocks);
        }
        const auto tokens = static_cast<int32_t>(blocks.size()) * 32;
        const auto count = 1 + static_cast<int32_t>(random() % 40) % tokens;
        rows.add(blocks, static_cast<int32_t>(random() % static_cast<uint64_t>(tokens - count + 1)),
                 count);
      }
      const auto num_rows = static_cast<int64_t>(rows.positions.size());
      const int64_t total = num_rows * shape.num_kv_heads;
      const auto begin = static_cast<int64_t>(random() % static_cast<uint64_t>(total));
      const Range units{begin, total - static_cast<int64_t>(random() % 3)};

      std::set<int64_t> expected;  // lines
      for (int64_t unit = units.begin; unit < units.end; ++unit) {
        const auto row = static_cast<size_t>(unit % num_rows);
        const int64_t position = rows.positions[row];
        for (int64_t at = first_attended(shape, position) / 32; at <= position / 32; ++at) {
          const int32_t block = rows.block_ids[static_cast<size_t>(rows.table_begins[row] + at)];
          const int64_t first = kv_block(cache, block, unit / num_rows) - cache.data;
          const auto bytes = static_cast<int64_t>(cache.block_stride);
          for (int64_t line = first; line < first + bytes; line += 64) expected.insert(line);
        }
      }
      std::set<int64_t> found;
      for (const MemoryRun& run : find(cache, rows, units, shape)) {
        for (int64_t line = run.begin; line < run.begin + run.bytes; line += 64) found.insert(line);
      }
      ASSERT_EQ(found, expected) << "round " << round;
    }
  }
}

TEST_F(KvRuns, OfNeighboursAreOne) {
  const KvLayer cache = layer(DType::kBf16);
  const auto block = static_cast<int64_t>(cache.block_stride);
  Rows rows;
  rows.add({8, 9, 10, 11, 12, 13, 14, 15, 16, 17}, 319, 1);
  const auto runs = find(cache, rows, {0, kShape.num_kv_heads});
  // For each head a bundle's part, and its part of the next bundle. The last head's of the one lies
  // before the first head's of the other, but is not read before it.
  ASSERT_EQ(runs.size(), 6u);
  for (int64_t head = 0; head < kShape.num_kv_heads; ++head) {
    const MemoryRun* of_head = runs.data() + 2 * head;
    EXPECT_EQ(of_head[0].begin, kv_block(cache, 8, head) - cache.data);
    EXPECT_EQ(of_head[0].bytes, 8 * block);
    EXPECT_EQ(of_head[1].begin, kv_block(cache, 16, head) - cache.data);
    EXPECT_EQ(of_head[1].bytes, 2 * block);
  }
}

TEST_F(KvRuns, AreAsManyAsThereIsRoomFor) {
  const KvLayer cache = layer(DType::kBf16);
  Rows rows;
  for (int i = 0; i < 20; ++i) rows.add({2 * i, 2 * i + 40}, 40, 1);
  EXPECT_EQ(find(cache, rows, {0, 60}).size(), 120u);
  EXPECT_EQ(find(cache, rows, {0, 60}, kShape, 7).size(), 7u);
  EXPECT_EQ(find(cache, rows, {20, 20}).size(), 0u);
}

TEST_F(KvRuns, AreWantedByTheLaneUntilTheyAreGone) {
  const KvLayer cache = layer(DType::kBf16);
  Rows rows;
  rows.add({3, 4}, 40, 1);
  Lane lane;
  {
    KvAhead ahead(lane, {0, kShape.num_kv_heads}, kShape, rows.view(), cache);
    EXPECT_EQ(lane.wanted(), nullptr);
    ahead.want(cache);
    ASSERT_NE(lane.wanted(), nullptr);
    EXPECT_EQ(lane.wanted()->base, cache.data);
    EXPECT_EQ(lane.wanted()->end - lane.wanted()->next, 3);
    ++lane.wanted()->next;  // a kernel has
    ahead.want(cache);
    EXPECT_EQ(lane.wanted()->end - lane.wanted()->next, 3);
  }
  EXPECT_EQ(lane.wanted(), nullptr);
}

}  // namespace
}  // namespace tidemill

#include "kernels/host/attention_share.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace tidemill::host {
namespace {

struct Case {
  std::vector<int32_t> positions;
  AttentionShape shape;
};

AttentionShape shape_of(int64_t kv_heads, int64_t window = 0) {
  return {.num_heads = 2 * kv_heads, .num_kv_heads = kv_heads, .head_dim = 64, .window = window};
}

std::vector<int32_t> chunk(int32_t first, int32_t count) {
  std::vector<int32_t> positions(static_cast<size_t>(count));
  std::iota(positions.begin(), positions.end(), first);
  return positions;
}

std::vector<Case> cases() {
  return {{chunk(0, 512), shape_of(1)},       {chunk(0, 512), shape_of(3)},
          {chunk(0, 1), shape_of(1)},         {chunk(900, 64), shape_of(8)},
          {chunk(0, 300), shape_of(2, 40)},   {{5000, 3, 700, 31}, shape_of(1)},
          {{12, 4000, 12, 4000}, shape_of(2)}};
}

TokenRows rows_of(const Case& test_case) {
  return {.count = static_cast<int64_t>(test_case.positions.size()),
          .positions = test_case.positions.data()};
}

// Blocks that a unit reads: those from its first attended position to its own.
int64_t blocks_of(const Case& test_case, int64_t unit) {
  const auto row = static_cast<size_t>(unit) % test_case.positions.size();
  const int64_t last = test_case.positions[row];
  return last / 32 - first_attended(test_case.shape, last) / 32 + 1;
}

TEST(AttentionShare, EveryUnitBelongsToOneLane) {
  for (const Case& test_case : cases()) {
    for (const int count : {1, 2, 3, 8, 64}) {
      int64_t next = 0;
      for (int index = 0; index < count; ++index) {
        const Range units =
            share_attention(Lane(index, count, nullptr), rows_of(test_case), test_case.shape);
        EXPECT_EQ(units.begin, next);
        EXPECT_GE(units.end, units.begin);
        next = units.end;
      }
      EXPECT_EQ(next, rows_of(test_case).count * test_case.shape.num_kv_heads);
    }
  }
}

TEST(AttentionShare, LanesReadEqualNumbersOfBlocksToWithinAUnit) {
  for (const Case& test_case : cases()) {
    const int64_t num_units = rows_of(test_case).count * test_case.shape.num_kv_heads;
    int64_t total = 0;
    int64_t largest = 0;
    for (int64_t unit = 0; unit < num_units; ++unit) {
      total += blocks_of(test_case, unit);
      largest = std::max(largest, blocks_of(test_case, unit));
    }
    for (const int count : {2, 3, 8}) {
      for (int index = 0; index < count; ++index) {
        const Range units =
            share_attention(Lane(index, count, nullptr), rows_of(test_case), test_case.shape);
        int64_t blocks = 0;
        for (int64_t unit = units.begin; unit < units.end; ++unit) {
          blocks += blocks_of(test_case, unit);
        }
        EXPECT_LE(std::abs(blocks * count - total), largest * count)
            << "lane " << index << " of " << count << ": " << blocks << " of " << total;
      }
    }
  }
}

TEST(AttentionShare, AWindowEndsAtTheRowsOwnPosition) {
  EXPECT_EQ(first_attended(shape_of(1), 700), 0);
  EXPECT_EQ(first_attended(shape_of(1, 40), 700), 661);
  EXPECT_EQ(first_attended(shape_of(1, 40), 39), 0);
  EXPECT_EQ(first_attended(shape_of(1, 40), 40), 1);
}

TEST(AttentionShare, AStepWithoutRowsHasNoUnits) {
  EXPECT_EQ(share_attention(Lane(1, 2, nullptr), {}, shape_of(3)).size(), 0);
}

}  // namespace
}  // namespace tidemill::host

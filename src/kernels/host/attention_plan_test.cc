#include "kernels/host/attention_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/attention_cases.h"
#include "kernels/select.h"

namespace tidemill::host {
namespace {

struct Step {
  AttentionShape shape;
  test::SequenceRows sequences;

  TokenRows rows() const { return sequences.view(); }
  Step& add(int32_t first, int32_t count, int32_t shared = 0) {
    sequences.add(first, count, shared);
    return *this;
  }
};

Step step_of(int64_t kv_heads, int64_t group = 2, int64_t window = 0) {
  return {.shape = {.num_heads = group * kv_heads,
                    .num_kv_heads = kv_heads,
                    .head_dim = 64,
                    .window = window},
          .sequences = {}};
}

constexpr int64_t kElementBytes = 4;

class Planned {
 public:
  Planned(const Step& step, int lanes, int64_t spare_bytes = int64_t{1} << 40)
      : num_lanes(lanes),
        buffer_(select_kernels("reference")
                    .allocate(static_cast<size_t>(attention_memory_bytes(
                        step.shape, std::max<int64_t>(1, step.rows().count), 8192)))) {
    const auto all = static_cast<int64_t>(buffer_.bytes());
    memory_ = {buffer_.data(), all};
    make_attention_plan(step.shape, step.rows(), lanes, kElementBytes, memory_);
    const int64_t slots = plan().slots - static_cast<unsigned char*>(buffer_.data());
    memory_.bytes = std::min(all, slots + spare_bytes);
    make_attention_plan(step.shape, step.rows(), lanes, kElementBytes, memory_);
    capacity = (memory_.bytes - slots) / state_bytes(kElementBytes, step.shape.head_dim);
  }
  const AttentionPlan& plan() const { return attention_plan(memory_); }

  const int num_lanes;
  int64_t capacity = 0;  // of slots, in states

 private:
  Buffer buffer_;
  AttentionMemory memory_;
};

std::vector<Step> steps() {
  return {step_of(1).add(0, 512),
          step_of(3).add(0, 512),
          step_of(1).add(0, 1),
          step_of(8).add(900, 64),
          step_of(2, 2, 40).add(0, 300),
          step_of(1).add(5000, 1).add(3, 1).add(700, 1).add(31, 1),
          step_of(2).add(12, 1).add(4000, 1).add(12, 1).add(4000, 1),
          step_of(1, 3).add(8000, 1),
          step_of(1, 80).add(3000, 2).add(2000, 1),
          step_of(3, 3).add(2000, 1, 40).add(2100, 1, 40).add(100, 30).add(1500, 1, 40),
          step_of(1, 3, 1000).add(8000, 1).add(500, 1)};
}

struct Part {
  int lane;
  int64_t unit;
  int32_t partition;
};

// What each lane computes, in order.
std::vector<Part> parts(const Planned& planned) {
  const AttentionPlan& plan = planned.plan();
  std::vector<Part> all;
  for (int lane = 0; lane < planned.num_lanes; ++lane) {
    const Cut& end = plan.cuts[lane + 1];
    for (Cut at = plan.cuts[lane]; at < end; at = {at.unit + 1, 0, 0}) {
      const int32_t count = plan.partitions_behind(at, end);
      for (int32_t p = 0; p < count; ++p) all.push_back({lane, at.unit, at.partition + p});
    }
  }
  return all;
}

TEST(AttentionPlan, EveryPartitionOfEveryUnitBelongsToOneLane) {
  for (const Step& step : steps()) {
    for (const int lanes : {1, 2, 3, 8, 64}) {
      for (const int64_t spare_bytes : {int64_t{1} << 40, int64_t{5000}, int64_t{0}}) {
        const Planned planned(step, lanes, spare_bytes);
        const std::vector<Part> all = parts(planned);
        size_t next = 0;
        for (int64_t unit = 0; unit < planned.plan().slices * planned.plan().num_stacks; ++unit) {
          const Stack& stack = planned.plan().stacks[unit % planned.plan().num_stacks];
          for (int32_t p = 0; p < stack.num_partitions; ++p, ++next) {
            ASSERT_LT(next, all.size());
            EXPECT_EQ(all[next].unit, unit);
            EXPECT_EQ(all[next].partition, p);
          }
        }
        EXPECT_EQ(next, all.size());
      }
    }
  }
}

TEST(AttentionPlan, EveryRowIsInOneStack) {
  for (const Step& step : steps()) {
    const Planned planned(step, 2);
    const AttentionPlan& plan = planned.plan();
    std::vector<int32_t> rows;
    for (int64_t s = 0; s < plan.num_stacks; ++s) {
      const Stack& stack = plan.stacks[s];
      EXPECT_EQ(stack.begin, static_cast<int64_t>(rows.size()));
      EXPECT_LE(stack.count * slice_heads(step.shape), kTaskQueries);
      rows.insert(rows.end(), plan.rows + stack.begin, plan.rows + stack.begin + stack.count);
    }
    std::sort(rows.begin(), rows.end());
    std::vector<int32_t> all(static_cast<size_t>(step.rows().count));
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(rows, all);
  }
}

TEST(AttentionPlan, WhatLanesLeaveForEachOtherFitsAndDoesNotOverlap) {
  for (const Step& step : steps()) {
    for (const int lanes : {2, 3, 8, 64}) {
      for (const int64_t spare_bytes : {int64_t{1} << 40, int64_t{20000}}) {
        const Planned planned(step, lanes, spare_bytes);
        const AttentionPlan& plan = planned.plan();
        std::vector<int> users(static_cast<size_t>(planned.capacity));
        for (int i = 1; i < lanes; ++i) {
          const Cut& cut = plan.cuts[i];
          if (cut.partition == 0) continue;
          EXPECT_TRUE(plan.has_cut_unit);
          const int64_t states = plan.partitions_behind(cut, plan.cuts[i + 1]) *
                                 plan.stacks[cut.unit % plan.num_stacks].count *
                                 slice_heads(step.shape);
          for (int64_t s = 0; s < states; ++s) {
            EXPECT_EQ(++users.at(static_cast<size_t>(cut.slot + s)), 1);
          }
        }
      }
    }
  }
}

TEST(AttentionPlan, ALongSequenceAloneIsCutForAllLanes) {
  for (const int lanes : {2, 3, 4, 8}) {
    const Planned planned(step_of(1, 3).add(8191, 1), lanes);
    std::vector<int> partitions(static_cast<size_t>(lanes));
    for (const Part& part : parts(planned)) ++partitions[static_cast<size_t>(part.lane)];
    const auto [least, most] = std::minmax_element(partitions.begin(), partitions.end());
    EXPECT_LE(*most - *least, 1) << lanes << " lanes, 16 partitions";
  }
}

TEST(AttentionPlan, WithoutMemoryForItNothingIsCut) {
  const Planned planned(step_of(1, 3).add(8191, 1), 4, 0);
  EXPECT_FALSE(planned.plan().has_cut_unit);
}

TEST(AttentionPlan, UnitsOfManyEqualSequencesStayWhole) {
  Step step = step_of(3, 3);
  for (int i = 0; i < 16; ++i) step.add(1000 + i, 1);
  EXPECT_FALSE(Planned(step, 2).plan().has_cut_unit);
}

TEST(AttentionPlan, RowsOfAChunkAreStackedByTheTask) {
  const Planned planned(step_of(3, 3).add(100, 50), 1);
  const AttentionPlan& plan = planned.plan();
  ASSERT_EQ(plan.num_stacks, 4);  // 16 rows of 3 heads are 48 queries: three whole tiles
  EXPECT_EQ(plan.stacks[0].count, 16);
  EXPECT_EQ(plan.stacks[0].shared, 115 / 32 + 1);
  EXPECT_EQ(plan.stacks[3].count, 2);
}

TEST(AttentionPlan, HeadsThatFillNoWholeTileAreStackedAsManyAsATaskHolds) {
  const Planned planned(step_of(1, 7).add(0, 20), 1);
  ASSERT_EQ(planned.plan().num_stacks, 3);
  EXPECT_EQ(planned.plan().stacks[0].count, 9);  // 63 queries
}

TEST(AttentionPlan, SequencesWithTheSameHeadOfTheirTablesAreStacked) {
  const Step step =
      step_of(1, 3).add(2000, 1, 40).add(900, 1).add(2500, 1, 44).add(1500, 1, 40).add(80, 1, 40);
  const Planned planned(step, 1);
  const AttentionPlan& plan = planned.plan();
  const Stack* shared = std::find_if(plan.stacks, plan.stacks + plan.num_stacks,
                                     [](const Stack& stack) { return stack.count > 1; });
  ASSERT_NE(shared, plan.stacks + plan.num_stacks);
  EXPECT_EQ(shared->count, 3);
  EXPECT_EQ(shared->shared, 40);
  EXPECT_EQ(plan.num_stacks, 3);  // too short a common head; nothing in common
}

// A maximum may grow by groups of blocks, which must not be walked in two parts.
TEST(AttentionPlan, WhatIsSharedIsWholeGroupsOfBlocks) {
  for (const int32_t common : {4, 5, 7, 8, 11, 43}) {
    const Step step = step_of(1, 3).add(2000, 1, common).add(1500, 1, common);
    const Planned planned(step, 1);
    const AttentionPlan& plan = planned.plan();
    ASSERT_EQ(plan.num_stacks, 1) << common;
    EXPECT_EQ(plan.stacks[0].shared, common / kGroupBlocks * kGroupBlocks);
  }
}

TEST(AttentionPlan, AWindowEndsAtTheRowsOwnPosition) {
  const auto first = [](int64_t window, int64_t position) {
    return first_attended(step_of(1, 2, window).shape, position);
  };
  EXPECT_EQ(first(0, 700), 0);
  EXPECT_EQ(first(40, 700), 661);
  EXPECT_EQ(first(40, 39), 0);
  EXPECT_EQ(first(40, 40), 1);
}

TEST(AttentionPlan, AStepWithoutRowsHasNoStacks) {
  EXPECT_EQ(Planned(step_of(3), 2).plan().num_stacks, 0);
}

}  // namespace
}  // namespace tidemill::host

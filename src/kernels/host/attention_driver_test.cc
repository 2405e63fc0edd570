#include "kernels/host/attention_driver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "kernels/attention_cases.h"
#include "kernels/host/attention_loop.h"
#include "kernels/select.h"

namespace tidemill::host {
namespace {

using Keys = std::vector<const unsigned char*>;

// What a task reads and what it was told comes next.
struct Noted {
  Keys blocks;
  Keys next;
};
thread_local std::vector<Noted>* noted = nullptr;

Keys keys_of(const GroupKeys& group) { return {group.of_block, group.of_block + group.count}; }

void note(const AttentionTask& task) {
  Noted note{.blocks = {}, .next = keys_of(task.next)};
  for (int64_t b = task.begin; b < task.end; ++b) note.blocks.push_back(keys_at(task, b));
  // Up to a boundary of groups.
  note.blocks.resize(static_cast<size_t>(
      std::min(task.end, (task.begin / kGroupBlocks + 1) * kGroupBlocks) - task.begin));
  noted->push_back(note);
  reference::attend_f32(task);
}

constexpr Inner kNoting = [] {
  Inner inner{};
  inner.attention = {sizeof(double),         note,
                     reference::attend_bf16, reference::attend_int8,
                     reference::clear_state, reference::merge_state,
                     reference::finish_state};
  return inner;
}();

struct Step {
  test::SequenceRows sequences;

  Step& add(int32_t first, int32_t count, int32_t shared = 0) {
    sequences.add(first, count, shared);
    return *this;
  }

  // What each lane's tasks note.
  std::vector<std::vector<Noted>> attend(const AttentionShape& shape, int lanes) const {
    constexpr int64_t kMaxPositions = 2048;
    const TokenRows rows = sequences.view();
    const test::Cache cache(DType::kF32, shape, std::max(1, sequences.num_blocks()), 0.0f);
    const Buffer buffer = select_kernels("reference")
                              .allocate(static_cast<size_t>(
                                  attention_memory_bytes(shape, rows.count, kMaxPositions)));
    const AttentionMemory memory{buffer.data(), static_cast<int64_t>(buffer.bytes())};
    test::OwnedTensor q(DType::kF32, rows.count, shape.num_heads * shape.head_dim);
    test::OwnedTensor out(DType::kF32, rows.count, shape.num_heads * shape.head_dim);
    std::vector<std::vector<Noted>> of_lanes(static_cast<size_t>(lanes));
    test::on_lanes(lanes, [&](Lane& lane) {
      noted = &of_lanes[static_cast<size_t>(lane.index())];
      plan_attention<kNoting>(lane, shape, rows, memory);
      attention<kNoting>(lane, q.view(), shape, rows, cache.layer(), memory, out.view());
    });
    return of_lanes;
  }
};

// Of one lane, whose order is known: each task is told of the one behind it.
void expect_told(const Step& step, const AttentionShape& shape, size_t num_tasks) {
  const std::vector<Noted> tasks = step.attend(shape, 1)[0];
  ASSERT_EQ(tasks.size(), num_tasks);
  for (size_t i = 0; i + 1 < tasks.size(); ++i) {
    EXPECT_EQ(tasks[i].next, tasks[i + 1].blocks) << "task " << i;
  }
  EXPECT_TRUE(tasks.back().next.empty());
}

TEST(AttentionDriver, TasksAreToldWhatComesNext) {
  const AttentionShape two_heads = test::shape_of(32, 4, 2);
  // Decodes of 1, 9 and 5 blocks by two kv heads.
  expect_told(Step().add(3, 1).add(280, 1).add(159, 1), two_heads, 6);
  // Three partitions, by a kv head whose queries are two slices.
  expect_told(Step().add(1100, 1), test::shape_of(32, 80, 1), 6);
  // A window begins within a group.
  expect_told(Step().add(300, 1).add(500, 1), test::shape_of(32, 4, 2, 40), 4);
  // A chunk that crosses a partition: its rows are one stack, or several.
  expect_told(Step().add(500, 30), test::shape_of(32, 1, 1), 2);
  expect_told(Step().add(500, 30), test::shape_of(32, 4, 1), 4);
  // A common prefix of 8 blocks, then what each row has alone; the last goes on in a partition.
  expect_told(Step().add(300, 1).add(310, 1, 8).add(600, 1, 8), test::shape_of(32, 4, 1), 5);
  // One whose first row has nothing but the prefix.
  expect_told(Step().add(255, 1).add(400, 1, 8).add(420, 1, 8), test::shape_of(32, 4, 1), 3);
}

// Whoever takes up another's unit does not know the next; what a task is told, some task reads.
TEST(AttentionDriver, LanesAreToldOfBlocksThatAreRead) {
  Step step;
  for (int32_t i = 0; i < 7; ++i) step.add(100 + 40 * i, 1);
  for (const int lanes : {2, 3}) {
    const auto of_lanes = step.attend(test::shape_of(32, 4, 2), lanes);
    std::vector<Keys> begun;
    for (const auto& tasks : of_lanes) {
      for (const Noted& task : tasks) begun.push_back(task.blocks);
    }
    for (const auto& tasks : of_lanes) {
      for (const Noted& task : tasks) {
        if (task.next.empty()) continue;
        EXPECT_TRUE(std::ranges::find(begun, task.next) != begun.end());
      }
    }
  }
}

TEST(AttentionDriver, NoRowsAreNoTasks) {
  EXPECT_TRUE(Step().attend(test::shape_of(32, 4, 2), 1)[0].empty());
}

TEST(AttentionLoop, KeysAheadGoOnBehindATask) {
  const int32_t ids[] = {4, 2, 9};
  unsigned char memory[1024 + 2 * 64];  // of blocks, their keys and values
  AttentionTask task{
      .block_ids = ids, .begin = 0, .end = 3, .block_stride = 64, .bundle_stride = 1024};
  task.keys = memory;
  task.values = memory + 32;
  task.next = {.of_block = {memory + 1, memory + 2}, .count = 2};
  EXPECT_EQ(keys_ahead(task, 2), memory + 1024 + 64);
  EXPECT_EQ(keys_ahead(task, 3), memory + 1);
  EXPECT_EQ(keys_ahead(task, 4), memory + 2);
  EXPECT_EQ(keys_ahead(task, 5), nullptr);
  EXPECT_EQ(block_at(task, 2).ahead, (memory + 1) - (memory + 1024 + 64));
  EXPECT_EQ(block_at(task, 1, 2).ahead, (memory + 1) - (memory + 2 * 64));
  EXPECT_EQ(block_at(task, 2, 4).ahead, 0);
}

}  // namespace
}  // namespace tidemill::host

// Groups of blocks, for the attentions whose maxima grow by groups (attention_inner.h). In an
// unnamed namespace, as attention_loop.h explains.
#pragma once

#include <stdint.h>

#include "kernels/host/attention_loop.h"

namespace tidemill {
namespace {

constexpr int64_t kGroupTokens = kGroupBlocks * kTokensPerBlock;

// Blocks of a group that a task walks, one behind the other.
struct Group {
  int64_t position;  // the first block's first token's
  int64_t count;     // of blocks
  const unsigned char* keys[kGroupBlocks];
  const unsigned char* values[kGroupBlocks];
  GroupKeys next;  // of what is read behind it, as far as that is known

  int64_t position_of(int64_t block) const { return position + block * kTokensPerBlock; }
};

// Some of a group's blocks, one behind the other.
struct GroupBlocks {
  int64_t begin, end;
};

inline Group group_at(const AttentionTask& task, int64_t begin) {
  const int64_t next = (begin / kGroupBlocks + 1) * kGroupBlocks;
  const int64_t end = next < task.end ? next : task.end;
  Group group;
  group.position = begin * kTokensPerBlock;
  group.count = end - begin;
  for (int64_t b = 0; b < group.count; ++b) {
    group.keys[b] = keys_at(task, begin + b);
    group.values[b] = group.keys[b] + (task.values - task.keys);
  }
  group.next = task.next;
  if (end < task.end) {
    const int64_t left = task.end - end;
    group.next.count = left < kGroupBlocks ? left : kGroupBlocks;
    for (int64_t b = 0; b < group.next.count; ++b) group.next.of_block[b] = keys_at(task, end + b);
  }
  return group;
}

inline Active active_in(const QueryTile& tile, const Group& group) {
  return active_in(tile, group.position, group.count * kTokensPerBlock);
}

// What any of the active queries attends to; there is one.
inline GroupBlocks attended(const Group& group, const QueryTile& tile, const Active& active) {
  GroupBlocks blocks{0, group.count};
  while (group.position_of(blocks.begin + 1) <= tile.first[active.begin]) ++blocks.begin;
  while (group.position_of(blocks.end - 1) > tile.last[active.end - 1]) --blocks.end;
  return blocks;
}

// Whether some of a tile's queries do not attend to all of the block that begins there.
inline bool is_masked(const QueryTile& tile, int64_t position) {
  return tile.first[tile.count - 1] > position || tile.last[0] < position + kTokensPerBlock - 1;
}

}  // namespace
}  // namespace tidemill

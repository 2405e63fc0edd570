// What a step's attention consists of, and which part of it a lane computes.
//
// Rows that have blocks in common are stacked: the rows of a chunk, which share all of them, and
// sequences with the same blocks at the head of their tables. A unit of work is one stack and one
// kv head (or, where more query heads share it than a task holds, a slice of them): unit u is stack
// u % num_stacks of slice u / num_stacks, so that a lane stays with a head as long as it can. Lanes
// take units in order, and help each other. Where shares of whole units would be unequal, a unit is
// cut between two partitions, and lanes keep to their own: whoever has its beginning merges what
// the others leave in `slots`.
//
// None of this changes a bit: a query's partitions are computed alike and merged in order,
// whoever computes them and whoever shares the reading.
#pragma once

#include <stdint.h>

#include "kernels/host/attention_inner.h"
#include "kernels/kernels.h"

namespace tidemill::host {

struct Stack {
  int32_t begin;  // rows begin .. begin + count of AttentionPlan::rows
  int32_t count;
  int32_t shared;  // blocks from the sequence's first on that all rows read in common; of a chunk,
                   // all blocks of its last row
  int32_t first_partition;  // that any row attends to, of its sequence
  int32_t num_partitions;
  int64_t cost_before;  // of the stacks before this one, for one slice
};

// A place between two parts of the work, in order.
struct Cut {
  int64_t unit;
  int32_t partition;  // of the unit, counted from its first; 0: the unit is not cut here
  int32_t slot;       // of the states that the lane behind the cut leaves, in query states
  friend bool operator<(const Cut& a, const Cut& b) {
    return a.unit != b.unit ? a.unit < b.unit : a.partition < b.partition;
  }
};

struct AttentionPlan {
  int64_t num_rows;
  int64_t num_stacks;
  int64_t slices;     // of all kv heads
  bool has_cut_unit;  // somebody has to merge
  int32_t* rows;      // of the step, stack by stack
  Stack* stacks;
  Cut* cuts;  // lane i has what lies between cuts i and i + 1
  unsigned char* slots;

  // The unit behind a lane's last, of which it may have only the beginning.
  int64_t end_unit(int lane) const {
    return cuts[lane + 1].partition > 0 ? cuts[lane + 1].unit + 1 : cuts[lane + 1].unit;
  }

  // Partitions of the unit that lie between its cut at `from` and the next one; `to` is the cut
  // behind `from`.
  int32_t partitions_behind(const Cut& from, const Cut& to) const {
    if (to.unit == from.unit) return to.partition - from.partition;
    return from.unit == slices * num_stacks
               ? 0
               : stacks[from.unit % num_stacks].num_partitions - from.partition;
  }
};

// Query heads of a slice; slices of one kv head.
int64_t slice_heads(const AttentionShape& shape);
int64_t slices_per_kv_head(const AttentionShape& shape);

// Lays the plan out in `memory`. For one thread; others may read it after a meeting.
// `element_bytes` is AttentionInner::state_element_bytes.
AttentionPlan* make_attention_plan(const AttentionShape& shape, const TokenRows& rows,
                                   int num_lanes, int64_t element_bytes,
                                   const AttentionMemory& memory);
// What make_attention_plan has laid out there.
const AttentionPlan& attention_plan(const AttentionMemory& memory);

}  // namespace tidemill::host

// The keys and values that a lane's next attention reads, asked for while its products compute.
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "kernels/kernels.h"
#include "parallel/lane.h"
#include "parallel/memory_ahead.h"

namespace tidemill {

// Runs of a layer's memory that `units` of its attention read, in their order. Unit u is what row
// u % rows.count attends to with kv head u / rows.count, which is about what attention makes of a
// step of many sequences. As many runs as fit into `runs`; returns how many those are. Blocks that
// the unit before attends to, too, as row behind row of one sequence does, are left out.
size_t find_kv_runs(const AttentionShape& shape, const TokenRows& rows, Range units,
                    const KvLayer& layer, std::span<MemoryRun> runs);

// Lives on the lane's stack for a step, whose blocks are alike in every layer.
class KvAhead {
 public:
  // lane: the one that the products are given. It outlives this. units: those that will be its own
  // in attention. layer: any of them.
  KvAhead(Lane& lane, Range units, const AttentionShape& shape, const TokenRows& rows,
          const KvLayer& layer);
  KvAhead(const KvAhead&) = delete;
  KvAhead& operator=(const KvAhead&) = delete;
  ~KvAhead() { lane_.want(nullptr); }

  // From now on those of this layer are wanted.
  void want(const KvLayer& layer);

 private:
  Lane& lane_;
  std::array<MemoryRun, 512> runs_;
  size_t num_runs_;
  MemoryAhead ahead_{};
};

}  // namespace tidemill

// The KV cache of a simulation: remembers which history was written into which slot of which block.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "scheduler/prefix_cache.h"
#include "scheduler/scheduler.h"
#include "scheduler/sequence.h"
#include "scheduler/simulation/history.h"

namespace tidemill {

class SimulatedMemory {
 public:
  explicit SimulatedMemory(const std::vector<KvGroupOptions>& groups);

  // Computes a row as a network would: reads what its positions may see, then writes its own.
  // `histories` are those of the row's sequence, one per position up to the row's last. False when
  // a block that it reads holds anything else.
  bool compute(const PlanRow& row, const Sequence& sequence, std::span<const History> histories);

  void damage(size_t group, int32_t block, int32_t slot);  // a write that nobody asked for

 private:
  History* slots(size_t group, int32_t block) {
    return slots_[group].data() + static_cast<size_t>(block) * kBlockTokens;
  }

  const std::vector<KvGroupOptions> groups_;
  std::vector<std::vector<History>> slots_;  // [group][block * 32 + slot]
};

}  // namespace tidemill

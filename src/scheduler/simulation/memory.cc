#include "scheduler/simulation/memory.h"

#include <algorithm>
#include <cstring>

namespace tidemill {

SimulatedMemory::SimulatedMemory(const std::vector<KvGroupOptions>& groups) : groups_(groups) {
  for (const KvGroupOptions& group : groups) {
    slots_.emplace_back(static_cast<size_t>(group.num_blocks * kBlockTokens), History{0});
  }
}

bool SimulatedMemory::compute(const PlanRow& row, const Sequence& sequence,
                              std::span<const History> histories) {
  const int64_t begin = row.first_position;
  const int64_t end = begin + row.num_tokens;
  for (size_t group = 0; group < groups_.size(); ++group) {
    const BlockTable& table = sequence.block_tables[group];
    const int64_t window = groups_[group].window;
    const int64_t first_seen = window == 0 ? 0 : std::max<int64_t>(0, begin - window + 1);
    for (int64_t block = first_seen / kBlockTokens; block * kBlockTokens < end; ++block) {
      const int64_t first = block * kBlockTokens;
      const int64_t read_from = std::max(first, first_seen);
      const int64_t read_to = std::min(first + kBlockTokens, begin);
      const int64_t write_from = std::max(first, begin);
      const int64_t write_to = std::min(first + kBlockTokens, end);
      if (static_cast<size_t>(block) >= table.size() || !table[static_cast<size_t>(block)]) {
        return false;
      }
      History* of_block = slots(group, table[static_cast<size_t>(block)].id());
      if (read_from < read_to &&
          std::memcmp(of_block + (read_from - first), histories.data() + read_from,
                      static_cast<size_t>(read_to - read_from) * sizeof(History)) != 0) {
        return false;
      }
      if (write_from < write_to) {
        std::copy(histories.begin() + write_from, histories.begin() + write_to,
                  of_block + (write_from - first));
        // As the kernels do: behind what a block begins with nothing stands any more.
        if (write_from == first) {
          std::fill(of_block + (write_to - first), of_block + kBlockTokens, History{0});
        }
      }
    }
  }
  return true;
}

void SimulatedMemory::damage(size_t group, int32_t block, int32_t slot) {
  slots(group, block)[slot] ^= 1;
}

}  // namespace tidemill

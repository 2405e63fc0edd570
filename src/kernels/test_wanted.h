// Memory that a lane wants while it multiplies, for tests of products.
#pragma once

#include <vector>

#include "kernels/kernels.h"
#include "parallel/memory_ahead.h"

namespace tidemill::test {

// A buffer of kBytes and two runs of `run_bytes`, one from its beginning and one up to its end.
class WantedMemory {
 public:
  static constexpr int64_t kBytes = int64_t{1} << 20;

  WantedMemory(const Kernels& kernels, int64_t run_bytes)
      : memory_(kernels.allocate(kBytes)),
        runs_({{0, run_bytes}, {kBytes - run_bytes, run_bytes}}),
        ahead_{static_cast<const unsigned char*>(memory_.data()), runs_.data(),
               runs_.data() + runs_.size(), 0} {}

  MemoryAhead* ahead() { return &ahead_; }
  bool any_asked() const { return ahead_.next != runs_.data() || ahead_.asked > 0; }
  bool all_asked() const { return ahead_.next == ahead_.end; }

 private:
  Buffer memory_;
  std::vector<MemoryRun> runs_;
  MemoryAhead ahead_;
};

}  // namespace tidemill::test

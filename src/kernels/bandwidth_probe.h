// How fast this machine reads memory now: what decode is measured against. Taken beside the thing
// it judges, in the same seconds (design: measuring honestly).
#pragma once

#include "kernels/kernels.h"
#include "parallel/worker_pool.h"

namespace tidemill {

// Two probes that differ by more were not taken in one state of the machine: what was measured
// between them is dropped.
inline constexpr double kMaxProbeRatio = 1.15;
bool probes_agree(double a, double b);

class BandwidthProbe {
 public:
  // Allocates and touches `bytes`, which should be several times the last-level cache.
  BandwidthProbe(const Kernels& kernels, WorkerPool& workers, int64_t bytes = int64_t{1} << 30);

  // Bytes per second of one plain read of the whole buffer by all workers.
  double measure();

 private:
  const Kernels& kernels_;
  WorkerPool& workers_;
  Buffer buffer_;
  int64_t bytes_;
};

}  // namespace tidemill

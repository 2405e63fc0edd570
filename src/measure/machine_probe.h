// What this machine does per second now: plain reads of memory, and where a probe of it was given,
// arithmetic. Taken before and after what it judges.
#pragma once

#include <functional>

#include "kernels/bandwidth_probe.h"
#include "measure/rounds.h"
#include "model/load.h"

namespace tidemill {

// Operations per second (a multiplication or an addition each) of all workers, by the instructions
// that products of that format use. 0: cannot be probed.
using ArithmeticRate = std::function<double(const PackedFormat& format)>;

// The format whose instructions attention multiplies with.
PackedFormat attention_format(const ComputeTypes& types);

class MachineProbe {
 public:
  // `workers` outlives this. Bandwidth is that of the machine's best variant, whichever is
  // measured. Without `arithmetic` limits are those of memory alone.
  MachineProbe(WorkerPool& workers, ArithmeticRate arithmetic = nullptr);

  // For the products of `model`'s layers and head, and its attention.
  void set_model(const Model& model);

  // Some 50 ms. No section may need the workers meanwhile for long: it waits its turn.
  Rates measure();

  int num_threads() const { return workers_.num_threads(); }

 private:
  Rates measure_here();

  WorkerPool& workers_;
  BandwidthProbe bandwidth_;
  ArithmeticRate arithmetic_;
  PackedFormat body_, head_, attention_;
};

// Processor time of this process and time, since this was made.
class CpuClock {
 public:
  CpuClock();
  double seconds() const;
  // Processor time over `seconds()` on each of `threads`; may exceed 1 where others work, too.
  double share(int threads) const;

 private:
  double wall_begin_;
  double cpu_begin_;
};

}  // namespace tidemill

// Kernels by themselves, on a model's own weights, shapes and formats: what a step is made of, each
// part with its share of the limit. Weights and keys come from memory: copies fill an arena that is
// walked in turn, a part of it in each round, between two probes.
#pragma once

#include <functional>
#include <vector>

#include "measure/kernel_line.h"
#include "measure/machine_probe.h"
#include "measure/step_rest.h"
#include "model/load.h"

namespace tidemill {

struct KernelTableOptions {
  double round_seconds = 0.05;
  double line_seconds = 120.0;  // rounds go on until then, at least kMinRounds, at most kMaxRounds
  int64_t arena_bytes = int64_t{1} << 29;
};

inline constexpr int kMinRounds = 3;
inline constexpr int kMaxRounds = 9;

// Keeps the calling thread on worker 0's core. Calls `show` with each line as it is ready. Returns
// what a decode step of 1 and of 16 sequences comes to beside products and attention. Throws
// std::bad_alloc where there is no room for the arena. `probe` has the model set.
std::vector<StepRest> measure_kernels(const Kernels& kernels, const Model& model,
                                      WorkerPool& workers, MachineProbe& probe,
                                      const KernelTableOptions& options,
                                      const std::function<void(const KernelLine&)>& show);

}  // namespace tidemill

// Kernels by themselves, on a model's own weights, shapes and formats: what a step is made of, each
// part with its share of the limit. Weights and keys come from memory: copies fill an arena that is
// walked in turn, a part of it in each round, between two probes.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "measure/machine_probe.h"
#include "measure/rounds.h"
#include "model/load.h"

namespace tidemill {

struct KernelLine {
  std::string kernel;  // "qkv", "output", "gate_up", "down", "head", "attention", "rms_norm", ...
  std::string format;  // of the weight, of keys and values, or of the input; empty: f32
  int64_t rows = 0;
  int64_t context = 0;  // of attention: positions of each row
  Figures figures;      // `tokens` are rows; no limit (shares of 0) where all lies in caches
  bool has_limit = true;
};

struct KernelTableOptions {
  double round_seconds = 0.05;
  double line_seconds = 120.0;  // rounds go on until then, at least kMinRounds, at most kMaxRounds
  int64_t arena_bytes = int64_t{1} << 29;
};

inline constexpr int kMinRounds = 3;
inline constexpr int kMaxRounds = 9;

// Keeps the calling thread on worker 0's core. Calls `show` with each line as it is ready. Throws
// std::bad_alloc where there is no room for the arena. `probe` has the model set.
void measure_kernels(const Kernels& kernels, const Model& model, WorkerPool& workers,
                     MachineProbe& probe, const KernelTableOptions& options,
                     const std::function<void(const KernelLine&)>& show);

}  // namespace tidemill

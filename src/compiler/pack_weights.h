// Writes rank0.weights: mapped tensors, packed by all workers, a few megabytes in memory at a time.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "compiler/progress.h"
#include "compiler/weight_map.h"
#include "parallel/worker_pool.h"

namespace tidemill {

// Numbers of one tensor that did not survive, or were never numbers. Legal, but worth saying.
struct NumberLoss {
  std::string tensor;
  int64_t not_finite = 0;  // NaN and infinities of the checkpoint, kept
  int64_t overflowed = 0;  // finite there, infinite in the engine's format
};

struct PackedFile {
  std::string digest;  // SHA-256
  std::vector<NumberLoss> losses;
};

// Throws CheckpointError for tensors that cannot be read, std::runtime_error when writing fails.
PackedFile pack_weights(const std::vector<MappedTensor>& tensors, const std::filesystem::path& path,
                        WorkerPool& pool, const Progress& progress);

}  // namespace tidemill

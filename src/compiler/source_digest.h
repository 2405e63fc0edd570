// Identifies what an engine was made from: the contents of the checkpoint's files and every build
// option. Two checkpoints with the same bytes give the same engine, wherever they lie.
#pragma once

#include <string>

#include "checkpoint/checkpoint.h"
#include "compiler/digest_memory.h"
#include "compiler/progress.h"
#include "kernels/packed_weight.h"
#include "parallel/worker_pool.h"

namespace tidemill {

// Reads every file that is not remembered, once. Throws CheckpointError when the files are no
// longer those that were opened.
std::string source_digest(const Checkpoint& checkpoint, const std::optional<PackedFormat>& format,
                          const DigestMemory& memory, WorkerPool& pool, const Progress& progress);

}  // namespace tidemill

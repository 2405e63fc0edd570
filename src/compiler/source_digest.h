// Identifies what an engine was made from: the contents of the checkpoint's files and every build
// option. Two checkpoints with the same bytes give the same engine, wherever they lie.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "checkpoint/checkpoint.h"
#include "compiler/progress.h"
#include "kernels/packed_weight.h"
#include "parallel/worker_pool.h"

namespace tidemill {

// Where digests of files are remembered, keyed by path, size, times and inode, so that a warm start
// does not read a large checkpoint again. The folder need not exist; where it cannot be written,
// nothing is remembered.
struct DigestMemory {
  std::filesystem::path dir;
  // A file that was written more recently may be written again within the same tick of its clock:
  // it is not remembered.
  int64_t settle_ms = 2000;
};

// Reads every file that is not remembered, once.
std::string source_digest(const Checkpoint& checkpoint, PackedFormat format,
                          const DigestMemory& memory, WorkerPool& pool, const Progress& progress);

}  // namespace tidemill

// Checkpoint -> engine directory: map, pack, write beside the target, rename.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>

#include "checkpoint/checkpoint.h"
#include "compiler/digest_memory.h"
#include "compiler/progress.h"
#include "kernels/packed_weight.h"
#include "parallel/worker_pool.h"

namespace tidemill {

struct CompileOptions {
  std::optional<PackedFormat> format{};  // of the layers; nullopt: as they are stored
  std::string source_digest;  // source_digest.h: of the checkpoint and every build option
  std::string source_name;    // the model as configured, for people
  DigestMemory memory{};      // of the weights files that were found whole
};

enum class CompileOutcome {
  kCompiled,
  kAlreadyThere,  // the target is an engine of the same digest: another process was faster, perhaps
};

// There is no room where the engine was to be written. The message says what is free and needed.
class NoRoom : public std::runtime_error {
 public:
  NoRoom(const std::string& message, int64_t needed_bytes)
      : std::runtime_error(message), needed_bytes_(needed_bytes) {}
  int64_t needed_bytes() const { return needed_bytes_; }  // of the whole engine, nearly

 private:
  int64_t needed_bytes_;
};

// Throws CheckpointError, NoRoom or std::runtime_error; then there is nothing under the target's
// name that was not there before. A target that is an older engine is replaced, a damaged one set
// aside (check_engine.h); any other folder that is not empty is refused. What the conversion
// changes in the numbers is logged.
CompileOutcome compile_model(const Checkpoint& checkpoint, const CompileOptions& options,
                             const std::filesystem::path& target, WorkerPool& pool,
                             const Progress& progress);

}  // namespace tidemill

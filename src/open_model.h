// From the name of a model to an engine directory, compiling when there is none yet.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "compiler/progress.h"
#include "kernels/packed_weight.h"
#include "parallel/worker_pool.h"

namespace tidemill {

struct OpenOptions {
  std::string dtype;                // "", "auto", "bf16", "fp16", "fp32"; longer spellings, too
  std::string quantize;             // "", "none", "int8", ...: rounds the layers' weights
  std::filesystem::path cache_dir;  // empty: default_cache_dir()
};

// The format that the layers are packed in: that of dtype or, where `quantize` names integers, of
// those (fp16 becomes bf16, which is said aloud); nullopt where neither asks for one: as they are
// stored. Throws std::runtime_error that lists what is allowed.
std::optional<PackedFormat> packed_format_of(std::string_view dtype, std::string_view quantize);

// An engine directory to be read from. It goes with this object when it was compiled into memory,
// because the cache had no room for it; what is mapped by then stays.
struct OpenedEngine {
  std::filesystem::path dir;
  std::shared_ptr<const void> in_memory;  // what removes it; null: `dir` lies on a disk
};

// `model` is an engine directory, a checkpoint folder or a GGUF file. Opens the engine directory:
// itself, or one in the cache, compiled now if it is not there; without room on the disk, one in
// memory, with a warning. Throws with the way out.
OpenedEngine open_engine(const std::string& model, const OpenOptions& options, WorkerPool& pool,
                         const Progress& progress);

// The folder or file of that name; refuses hub ids and what does not exist.
std::filesystem::path local_model(const std::string& model);

}  // namespace tidemill

// From the name of a model to an engine directory, compiling when there is none yet.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "compiler/progress.h"
#include "kernels/packed_weight.h"
#include "parallel/worker_pool.h"

namespace tidemill {

struct OpenOptions {
  std::string dtype;                // "", "auto", "bf16", "fp16", "fp32"; longer spellings, too
  std::filesystem::path cache_dir;  // empty: default_cache_dir()
};

// The format that a dtype asks for: f32 for fp32, else bf16 (for fp16 that is said aloud). Throws
// std::runtime_error that lists what is allowed.
PackedFormat packed_format_of(std::string_view dtype);

// `model` is an engine directory, a checkpoint folder or a GGUF file. Returns the engine directory:
// itself, or one in the cache, compiled now if it is not there. Throws with the way out.
std::filesystem::path open_engine(const std::string& model, const OpenOptions& options,
                                  WorkerPool& pool, const Progress& progress);

// The folder or file of that name; refuses hub ids and what does not exist.
std::filesystem::path local_model(const std::string& model);

}  // namespace tidemill

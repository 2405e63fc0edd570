#include "open_model.h"

#include <fmt/core.h>

#include <algorithm>
#include <stdexcept>
#include <system_error>

#include "base/check.h"
#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "compiler/check_engine.h"
#include "compiler/compile.h"
#include "compiler/engine_cache.h"
#include "compiler/source_digest.h"
#include "model/engine_dir.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

// "organisation/name", as model hubs write it.
bool looks_like_hub_id(std::string_view model) {
  return std::ranges::count(model, '/') == 1 && model.front() != '/' && model.front() != '.' &&
         model.back() != '/';
}

void refuse_other_dtype(const fs::path& engine, const OpenOptions& options) {
  if (options.dtype.empty() || options.dtype == "auto") return;
  const PackedFormat format = read_manifest(engine).format;
  if (format == packed_format_of(options.dtype)) return;
  throw std::runtime_error(fmt::format(
      "{}: this engine was compiled as {}, but dtype is {}. Leave dtype out, or name the "
      "checkpoint, so that it is compiled again.",
      engine.string(), name_of(format), options.dtype));
}

}  // namespace

PackedFormat packed_format_of(std::string_view dtype) {
  if (dtype == "fp32" || dtype == "f32" || dtype == "float32") return PackedFormat::kF32;
  if (dtype == "fp16" || dtype == "float16") {
    log_info(
        "dtype fp16: weights and keys and values are kept in bf16, the 16-bit float that is "
        "computed with here");
    return PackedFormat::kBf16;
  }
  if (dtype.empty() || dtype == "auto" || dtype == "bf16" || dtype == "bfloat16") {
    return PackedFormat::kBf16;
  }
  throw std::runtime_error(fmt::format("dtype is {}; it must be auto, bf16, fp16 or fp32.", dtype));
}

fs::path local_model(const std::string& model) {
  std::error_code ignored;
  if (!model.empty() && fs::exists(model, ignored)) return model;
  if (!model.empty() && looks_like_hub_id(model)) {
    throw std::runtime_error(fmt::format(
        "{}: is no folder or file here. Hub ids come later: name a local folder or GGUF "
        "file.",
        model));
  }
  throw std::runtime_error(fmt::format(
      "{}: no such file or folder. Name an engine directory, a checkpoint folder or a GGUF file.",
      model.empty() ? "the model's name is empty" : model));
}

fs::path open_engine(const std::string& model, const OpenOptions& options, WorkerPool& pool,
                     const Progress& progress) {
  const PackedFormat packed_format = packed_format_of(options.dtype);
  const fs::path path = local_model(model);
  const fs::path cache_dir = options.cache_dir.empty() ? default_cache_dir() : options.cache_dir;
  if (is_engine_dir(path)) {
    refuse_other_dtype(path, options);
    progress("check", 0);
    check_engine(path, digest_memory_of(cache_dir));
    return path;
  }
  progress("read checkpoint", 0);
  const Checkpoint checkpoint = Checkpoint::open(path);
  const EngineCache cache(cache_dir);
  const DigestMemory memory = cache.digest_memory();
  const std::string digest = source_digest(checkpoint, packed_format, memory, pool, progress);
  const fs::path engine = cache.engine_dir(digest);
  progress("check", 0);
  if (!find_engine(engine, digest, memory).whole) {
    const CompileOptions compile_options{
        .format = packed_format, .source_digest = digest, .source_name = model, .memory = memory};
    compile_model(checkpoint, compile_options, engine, pool, progress);
  }
  return engine;
}

}  // namespace tidemill

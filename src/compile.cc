#include "compile.h"

#include <fmt/core.h>

#include <cstdio>
#include <stdexcept>

#include "checkpoint/checkpoint.h"
#include "compiler/compile.h"
#include "compiler/engine_cache.h"
#include "compiler/source_digest.h"
#include "model/engine_dir.h"
#include "open_model.h"
#include "parallel/worker_pool.h"
#include "progress_bar.h"

namespace tidemill {

void compile_verb(const CompileSettings& settings) {
  const PackedFormat format = packed_format_of(settings.dtype);
  const std::filesystem::path path = local_model(settings.model);
  if (is_engine_dir(path)) {
    throw std::runtime_error(fmt::format(
        "{}: is compiled already. Name the checkpoint that it was made from.", path.string()));
  }
  if (settings.out.empty()) {
    throw std::runtime_error("compile: the engine needs a place. Name it with --out DIR.");
  }

  WorkerPool pool({.num_threads = settings.num_threads});
  ProgressBar bar(stderr);
  const Progress progress = bar.callback();
  progress("read checkpoint", 0);
  const Checkpoint checkpoint = Checkpoint::open(path);
  const std::filesystem::path cache_dir =
      settings.cache_dir.empty() ? default_cache_dir() : settings.cache_dir;
  const CompileOptions options{
      .format = format,
      .source_digest = source_digest(checkpoint, format,
                                     {.dir = EngineCache::digest_dir(cache_dir)}, pool, progress),
      .source_name = settings.model,
  };
  const CompileOutcome outcome = compile_model(checkpoint, options, settings.out, pool, progress);
  bar.finish();
  fmt::print("{}: {}, {}, {:.1f} MB\n", settings.out.string(),
             outcome == CompileOutcome::kCompiled ? "compiled" : "was there already",
             name_of(format),
             static_cast<double>(weights_file_bytes(read_manifest(settings.out).tensors)) / 1e6);
}

}  // namespace tidemill

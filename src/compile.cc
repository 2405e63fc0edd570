// tidemill compile: a checkpoint becomes an engine directory, ahead of time.
#include <cstdio>
#include <stdexcept>

#include "base/check.h"
#include "checkpoint/checkpoint.h"
#include "compiler/compile.h"
#include "compiler/engine_cache.h"
#include "compiler/source_digest.h"
#include "model/engine_dir.h"
#include "open_model.h"
#include "parallel/worker_pool.h"
#include "progress_bar.h"
#include "verbs.h"

namespace tidemill {

int compile(const SettingsReport& report) {
  const ModelSettings& model = report.settings.model;
  const std::filesystem::path out = report.settings.verb.out;
  const std::optional<PackedFormat> packed_format = packed_format_of(model.dtype, model.quantize);
  const std::filesystem::path path = local_model(model.model_id);
  if (is_engine_dir(path)) {
    throw std::runtime_error(format(
        "{} is compiled already. Name the checkpoint that it was made from.", path.string()));
  }
  if (out.empty()) throw std::runtime_error("the engine needs a place. Name it with --out DIR.");

  WorkerPool workers(report.settings.workers);
  ProgressBar bar(stderr);
  const Progress progress = bar.callback();
  progress("read checkpoint", 0);
  const Checkpoint checkpoint = Checkpoint::open(path);
  const std::filesystem::path cache_dir =
      model.cache_dir.empty() ? default_cache_dir() : std::filesystem::path(model.cache_dir);
  const DigestMemory memory = digest_memory_of(cache_dir);
  const CompileOptions options{
      .format = packed_format,
      .source_digest = source_digest(checkpoint, packed_format, memory, workers, progress),
      .source_name = model.model_id,
      .memory = memory};
  const CompileOutcome outcome = compile_model(checkpoint, options, out, workers, progress);
  bar.finish();
  const Manifest manifest = read_manifest(out);
  const double megabytes = static_cast<double>(weights_file_bytes(manifest.tensors)) / 1e6;
  std::printf("%s: %s, %s, %.1f MB\n", out.c_str(),
              outcome == CompileOutcome::kCompiled ? "compiled" : "was there already",
              name_of(manifest.format).c_str(), megabytes);
  return 0;
}

}  // namespace tidemill

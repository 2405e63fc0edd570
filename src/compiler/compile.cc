#include "compiler/compile.h"

#include <algorithm>
#include <map>
#include <stdexcept>
#include <system_error>

#include "base/check.h"
#include "base/log.h"
#include "compiler/check_engine.h"
#include "compiler/pack_weights.h"
#include "compiler/staged_dir.h"
#include "compiler/text_files.h"
#include "compiler/weight_map.h"
#include "model/engine_dir.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

void refuse_foreign_target(const fs::path& target) {
  if (!fs::exists(target) || is_engine_dir(target)) return;
  if (fs::is_directory(target) && fs::is_empty(target)) return;
  if (fs::exists(target / kWeightsFileName)) return;  // an engine that lost its manifest
  throw std::runtime_error(
      format("{}: exists and is not an engine directory. Name a folder that "
             "does not exist yet, or an engine to be replaced.",
             target.string()));
}

std::string gigabytes(int64_t bytes) {
  const bool small = bytes < 1'000'000'000;
  return format("{:.1f} {}", static_cast<double>(bytes) / (small ? 1e6 : 1e9), small ? "MB" : "GB");
}

// `stage` is the folder under construction; what is written there already takes no room any more.
void refuse_without_space(const fs::path& stage, int64_t bytes) {
  std::error_code error;
  const fs::space_info space = fs::space(stage, error);
  if (error) return;
  int64_t written = 0;
  for (const auto& file : fs::directory_iterator(stage)) {
    written += static_cast<int64_t>(file.file_size());
  }
  if (space.available >= static_cast<uintmax_t>(std::max<int64_t>(bytes - written, 1))) return;
  throw NoRoom(format("{}: {} are free, the engine takes {}. Free some space, or name another "
                      "place.",
                      stage.parent_path().string(),
                      gigabytes(static_cast<int64_t>(space.available)), gigabytes(bytes)),
               bytes);
}

void log_unused(const std::vector<std::string>& unused) {
  constexpr size_t kMaxNames = 20;
  if (unused.empty()) return;
  std::string names;
  for (size_t i = 0; i < std::min(unused.size(), kMaxNames); ++i) names += " " + unused[i];
  log_warning("{} stored tensors are no part of the network and are left out:{}{}", unused.size(),
              names, unused.size() > kMaxNames ? " ..." : "");
}

// Nothing about the numbers is changed in silence.
void log_rounding(const std::vector<MappedTensor>& tensors) {
  std::map<std::pair<StoredType, std::string>, int> rounded;
  for (const MappedTensor& tensor : tensors) {
    const PackedFormat& to = tensor.target.format;
    if (tensor.target.k == 0 || to == PackedFormat::kF32) continue;  // norms and biases stay f32
    for (const TensorPart& part : tensor.parts) {
      if (part.stored->type == StoredType::kBf16 && to == PackedFormat::kBf16) continue;
      if (keeps_integers(to, part.stored->type)) continue;
      ++rounded[{part.stored->type, name_of(to)}];
    }
  }
  for (const auto& [types, count] : rounded) {
    log_info("{} weights stored as {} are rounded to {}; dtype fp32 keeps every bit", count,
             name_of(types.first), types.second);
  }
}

void log_losses(const std::vector<NumberLoss>& losses) {
  for (const NumberLoss& loss : losses) {
    if (loss.not_finite > 0) {
      log_warning("{}: {} numbers are NaN or infinite in the checkpoint", loss.tensor,
                  loss.not_finite);
    }
    if (loss.overflowed > 0) {
      log_warning(
          "{}: {} numbers are too large for bf16 and become infinite; dtype fp32 keeps them",
          loss.tensor, loss.overflowed);
    }
  }
}

}  // namespace

CompileOutcome compile_model(const Checkpoint& checkpoint, const CompileOptions& options,
                             const fs::path& target, WorkerPool& pool, const Progress& progress) {
  refuse_foreign_target(target);
  progress("map", 0);
  WeightMap map = map_weights(checkpoint, options.format);
  const CheckpointText text = collect_text(checkpoint, map.architecture);
  map.architecture.eos_token_ids = text.end_token_ids;

  StagedDir stage(target, [&] { progress("wait for another process", 0); });
  const FoundEngine found = find_engine(target, options.source_digest, options.memory);
  if (found.whole) return CompileOutcome::kAlreadyThere;
  if (!found.damage.empty()) {
    log_warning("{} It is kept as {}.bad and compiled again now.", found.damage, target.string());
    set_aside(target);
  }

  Manifest manifest;
  manifest.source_digest = options.source_digest;
  manifest.source_name = options.source_name;
  manifest.architecture = map.architecture;
  manifest.tensors = targets_of(map.tensors);
  manifest.format = format_of_layers(manifest.tensors);
  const int64_t bytes = weights_file_bytes(manifest.tensors);
  refuse_without_space(stage.path(), bytes);
  log_unused(map.unused);
  log_rounding(map.tensors);

  try {
    const PackedFile packed =
        pack_weights(map.tensors, stage.path() / kWeightsFileName, pool, progress);
    log_losses(packed.losses);
    manifest.weights_digest = packed.digest;

    progress("write to disk", 0);
    manifest.text_digests = write_text_files(stage.path(), text.files);
    write_manifest(stage.path(), manifest);
  } catch (const std::runtime_error&) {
    refuse_without_space(stage.path(), bytes);  // somebody else has filled the disk since
    throw;
  }
  checkpoint.check_unchanged();  // else old weights would stand under the digest of new ones
  stage.publish();
  return CompileOutcome::kCompiled;
}

}  // namespace tidemill

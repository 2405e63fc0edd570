#include "compiler/check_engine.h"

#include <stdexcept>
#include <system_error>

#include "base/check.h"
#include "base/file_identity.h"
#include "model/engine_dir.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

// Nobody else writes a file of that name: what stands there was an engine.
bool holds_weights(const fs::path& dir) {
  std::error_code ignored;
  return fs::exists(dir / kWeightsFileName, ignored);
}

void check_known_weights(const Manifest& manifest, const fs::path& dir,
                         const DigestMemory& memory) {
  const FileIdentity before = identity_of(dir / kWeightsFileName);
  if (memory.recall(before) == manifest.weights_digest) return;
  check_weights(manifest, dir);
  if (identity_of(dir / kWeightsFileName) == before) {
    memory.remember(before, manifest.weights_digest);
  }
}

}  // namespace

void check_engine(const fs::path& dir, const DigestMemory& memory) {
  const Manifest manifest = read_manifest(dir);
  check_layout(manifest, dir);
  read_text_files(dir);  // complains about what is not its own
  check_known_weights(manifest, dir, memory);
}

FoundEngine find_engine(const fs::path& dir, const std::string& source_digest,
                        const DigestMemory& memory) {
  if (!is_engine_dir(dir)) {
    if (!holds_weights(dir)) return {};
    return {.damage =
                format("{}: damaged engine: {} is missing.", dir.string(), kManifestFileName)};
  }
  try {
    if (read_manifest(dir).source_digest != source_digest) return {};
    check_engine(dir, memory);
    return {.whole = true};
  } catch (const DamagedEngine& error) {
    return {.damage = error.what()};
  } catch (const std::runtime_error&) {
    return {};  // of another version: to be compiled again
  }
}

void set_aside(const fs::path& dir) {
  const fs::path bad = dir.string() + ".bad";
  fs::remove_all(bad);
  fs::rename(dir, bad);
}

}  // namespace tidemill

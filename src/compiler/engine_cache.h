// Where engines lie that were compiled on demand: CACHE/engines/DIGEST, and what we remember of the
// digests of large files: CACHE/digests. Never inside the model's own folder.
#pragma once

#include <filesystem>
#include <string>

#include "compiler/digest_memory.h"

namespace tidemill {

// $XDG_CACHE_HOME/tidemill; else $HOME/.cache/tidemill where HOME is a folder that we may write to;
// else /tmp/tidemill-cache.
std::filesystem::path default_cache_dir();

class EngineCache {
 public:
  // Makes the folder with mode 0700. Throws std::runtime_error when it cannot, and when what stands
  // there is no folder (a link to one is none), belongs to somebody else, or may be written to by
  // others: whoever writes there decides what is computed. Folders that an interrupted compilation
  // left behind are removed.
  explicit EngineCache(const std::filesystem::path& dir);

  std::filesystem::path engine_dir(const std::string& source_digest) const;
  DigestMemory digest_memory() const;

 private:
  std::filesystem::path dir_;
};

// Where what was measured of this machine is kept: CACHE/calibration.
std::filesystem::path calibration_dir_of(const std::filesystem::path& cache_dir);

// Whether what lies in a cache may be believed by who only reads there: it is a folder (a link to
// one is none) of ours or of root, and others may not write to it.
bool may_be_read(const std::filesystem::path& cache_dir);

// For who needs no place for engines: what is remembered in that cache; where it cannot be used,
// nothing, which is said.
DigestMemory digest_memory_of(const std::filesystem::path& cache_dir);

}  // namespace tidemill

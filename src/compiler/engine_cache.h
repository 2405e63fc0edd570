// Where engines lie that were compiled on demand: CACHE/engines/DIGEST, and what we remember of the
// digests of large files: CACHE/digests. Never inside the model's own folder.
#pragma once

#include <filesystem>
#include <string>

namespace tidemill {

// $XDG_CACHE_HOME/tidemill; else $HOME/.cache/tidemill where HOME is a folder that we may write to;
// else /tmp/tidemill-cache.
std::filesystem::path default_cache_dir();

class EngineCache {
 public:
  // Makes the folder with mode 0700; throws std::runtime_error when it cannot, or when it stands
  // where anybody may make folders (/tmp) and somebody else made it. Folders that an interrupted
  // compilation left behind are removed.
  explicit EngineCache(const std::filesystem::path& dir);

  std::filesystem::path engine_dir(const std::string& source_digest) const;

  // For source_digest(). It need not exist: then nothing is remembered.
  static std::filesystem::path digest_dir(const std::filesystem::path& cache_dir);

 private:
  std::filesystem::path dir_;
};

}  // namespace tidemill

// For tests: where reference outputs and real models are, when they are.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace tidemill {

inline std::filesystem::path folder_of(const char* variable, const char* fallback) {
  const char* given = std::getenv(variable);
  return given != nullptr ? std::filesystem::path(given)
                          : std::filesystem::path(TIDEMILL_SOURCE_DIR) / fallback;
}
inline std::filesystem::path shared_folder() { return folder_of("TIDEMILL_SHARED", "../shared"); }
inline std::filesystem::path models_folder() {
  return folder_of("TIDEMILL_MODELS", ".cache/models");
}

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace tidemill

// A test whose files are not on this machine says which, and is skipped.
#define SKIP_WITHOUT(path) \
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "not here: " << (path).string()

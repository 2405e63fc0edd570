// What lies at a path: a format that is read, or one that is known and refused by name with the way
// out (checkpoints.md 10).
#pragma once

#include <filesystem>

#include "base/json.h"

namespace tidemill {

struct FoundFormat {
  std::filesystem::path gguf;  // the (first) GGUF file; empty: a Hugging Face folder
};

// Throws CheckpointError for everything that is not read.
FoundFormat detect_format(const std::filesystem::path& path);

// A folder with a config.json: refuses quantised and foreign forms by name.
void refuse_unsupported(const std::filesystem::path& folder, const JsonValue& config);

// The one *.safetensors that counts when there is no index.
std::filesystem::path only_safetensors(const std::filesystem::path& folder);

}  // namespace tidemill

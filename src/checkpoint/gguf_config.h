// The metadata of a GGUF file in the words of a config.json, so that one function reads both.
#pragma once

#include <string>

#include "base/json.h"

namespace tidemill {

// Throws CheckpointError that names the key: missing, of another type, or an architecture that is
// not supported.
JsonValue config_from_gguf(const JsonValue& metadata, bool has_output_tensor,
                           int64_t embedding_rows, const std::string& file);

}  // namespace tidemill

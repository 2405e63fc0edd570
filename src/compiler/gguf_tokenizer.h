// The tokenizer inside a GGUF file, written as a tokenizer.json, so that text/ reads one format.
#pragma once

#include <optional>
#include <string>

#include "base/json.h"

namespace tidemill {

// nullopt when the file says that it has no tokenizer. Throws CheckpointError for a tokenizer that
// is damaged (lengths that differ, ids outside the vocabulary) or of a kind that is not read.
std::optional<std::string> gguf_tokenizer_json(const JsonValue& metadata);

}  // namespace tidemill

// GGUF versions 2 and 3: metadata, tensor descriptions, data. Counts are held against the bytes
// that are left before anything is allocated for them; every getter checks types and answers with
// an error, never with the end of the process.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/source_file.h"

namespace tidemill {

struct GgufFile {
  JsonValue metadata;                 // object: keys as the file spells them
  std::vector<StoredTensor> tensors;  // shapes outermost first
};

// `file` outlives the tensors.
GgufFile read_gguf(const SourceFile& file);

// NAME-00001-of-00003.gguf: the paths of all parts in order; just `path` when it is no part.
std::vector<std::filesystem::path> gguf_parts(const std::filesystem::path& path);

}  // namespace tidemill

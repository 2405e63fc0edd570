// safetensors: a JSON header and one buffer. Every rule of the format is checked before a tensor is
// handed out, and nothing is allocated in proportion to a number that was not checked first.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/source_file.h"

namespace tidemill {

// The tensors of one file, which outlives them.
std::vector<StoredTensor> read_safetensors(const SourceFile& file);

// model.safetensors.index.json: file names by tensor. File names are plain names ending in
// .safetensors.
struct ShardIndex {
  std::vector<std::pair<std::string, std::string>> file_of_tensor;
  std::vector<std::string> files;  // each once, in order of first mention
};
ShardIndex read_shard_index(std::string_view json, const std::string& file);

}  // namespace tidemill

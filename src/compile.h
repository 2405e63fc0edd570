// The verb `tidemill compile MODEL --out DIR`.
#pragma once

#include <filesystem>
#include <string>

namespace tidemill {

struct CompileSettings {
  std::string model;                // a checkpoint folder or a GGUF file
  std::filesystem::path out;        // the engine directory to make
  std::string dtype;                // open_model.h
  std::filesystem::path cache_dir;  // remembers digests of large files; empty: the default
  int num_threads = 0;              // 0: one per physical core
};

// Prints progress to standard error and what was made to standard output. Throws with the way out.
void compile_verb(const CompileSettings& settings);

}  // namespace tidemill

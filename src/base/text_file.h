// A whole text file (or pipe) in memory.
#pragma once

#include <filesystem>
#include <string>

namespace tidemill {

// Throws std::runtime_error with the path and the reason.
std::string read_text_file(const std::filesystem::path& path);

}  // namespace tidemill

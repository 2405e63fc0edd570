// How much memory this process may still take.
#pragma once

#include <cstdint>
#include <filesystem>

namespace tidemill {

// What the machine has available, or what the tightest of the process's control groups (v1 or v2,
// nested ones included) still allows, whichever is less. Page cache counts as room: the kernel
// gives it back, and the weights that we map are in it. Files are read below `root`.
int64_t available_memory(const std::filesystem::path& root = "/");

// Whether this system gives huge pages to whoever asks for them (madvise), or to all.
bool gives_huge_pages(const std::filesystem::path& root = "/");

}  // namespace tidemill

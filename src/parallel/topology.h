// Which cores this process may use.
#pragma once

#include <filesystem>
#include <vector>

namespace tidemill {

// The cores for workers: affinity mask and cgroup quota respected, one hyper-thread per core. Never
// empty. CPU numbers as the kernel counts them. Reads /proc and /sys below `root`; tests bring
// their own.
std::vector<int> usable_cores(const std::filesystem::path& root = "/");

}  // namespace tidemill

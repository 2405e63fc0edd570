// The control groups (cgroups(7), both versions) that limit this process.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

namespace tidemill {

struct ControlGroup {
  std::filesystem::path folder;  // may not exist: what is not mounted here does not limit
  int version = 2;               // 1 or 2: decides what its files are called
};

// Every group that `controller` ("cpu", "memory") holds this process in: its own and all above it,
// up to what is mounted, since each limits those below. In a container the path may be the host's,
// of which only the root, the container's own group, is mounted. Files are read below `root`.
std::vector<ControlGroup> control_groups(std::string_view controller,
                                         const std::filesystem::path& root = "/");

}  // namespace tidemill

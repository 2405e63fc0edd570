#include "parallel/control_groups.h"

#include <fstream>
#include <string>

namespace tidemill {
namespace {

namespace fs = std::filesystem;

void add_up_to(const fs::path& mount, const std::string& group, int version,
               std::vector<ControlGroup>& groups) {
  for (fs::path path = fs::path(group).lexically_normal().relative_path(); !path.empty();
       path = path.parent_path()) {
    groups.push_back({mount / path, version});
  }
}

}  // namespace

std::vector<ControlGroup> control_groups(std::string_view controller, const fs::path& root) {
  const fs::path mounts = root / "sys/fs/cgroup";
  // Where nothing names the groups, what is mounted is ours.
  std::vector<ControlGroup> groups = {{mounts, 2}, {mounts / controller, 1}};
  std::ifstream in(root / "proc/self/cgroup");
  // "0::/group" is version 2; "4:cpu,cpuacct:/group" is version 1.
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {
      add_up_to(mounts, group, 2, groups);
    } else if (("," + controllers + ",").find("," + std::string(controller) + ",") !=
               std::string::npos) {
      const fs::path mount = mounts / (fs::exists(mounts / controller) ? controller : controllers);
      if (mount != mounts / controller) groups.push_back({mount, 1});
      add_up_to(mount, group, 1, groups);
    }
  }
  return groups;
}

}  // namespace tidemill

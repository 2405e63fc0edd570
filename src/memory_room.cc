#include "memory_room.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "base/check.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

// The two generations of control groups, and how their files are called.
struct GroupFiles {
  const char* mount;
  const char* limit;
  const char* usage;
  const char* inactive_file;  // in memory.stat; of the group and all below it
  const char* active_file;
};
constexpr GroupFiles kVersion1 = {"sys/fs/cgroup/memory", "memory.limit_in_bytes",
                                  "memory.usage_in_bytes", "total_inactive_file",
                                  "total_active_file"};
constexpr GroupFiles kVersion2 = {"sys/fs/cgroup", "memory.max", "memory.current", "inactive_file",
                                  "active_file"};

std::optional<int64_t> read_number(const fs::path& path) {
  std::ifstream in(path);
  int64_t value = 0;
  if (in >> value) return value;
  return std::nullopt;  // no such file, or "max"
}

// The number behind a word at the start of a line; 0 when there is none.
int64_t number_of_line(const fs::path& path, std::string_view word) {
  std::ifstream in(path);
  std::string name, rest;
  int64_t value = 0;
  while (in >> name >> value) {
    if (name == word) return value;
    std::getline(in, rest);
  }
  return 0;
}

int64_t room_of_group(const fs::path& group, const GroupFiles& files) {
  const auto limit = read_number(group / files.limit);
  const auto usage = read_number(group / files.usage);
  if (!limit || !usage) return kUnlimited;
  const fs::path stat = group / "memory.stat";
  const int64_t page_cache =
      number_of_line(stat, files.inactive_file) + number_of_line(stat, files.active_file);
  return std::clamp<int64_t>(*limit - (*usage - page_cache), 0, *limit);
}

// Of the group at `path` below the mount and of every group around it. In a container the mount may
// be the process's own group, and then the path of the host does not exist below it.
int64_t room_of_groups(const fs::path& mount, fs::path path, const GroupFiles& files) {
  int64_t room = room_of_group(mount, files);
  for (path = path.lexically_normal().relative_path(); !path.empty(); path = path.parent_path()) {
    room = std::min(room, room_of_group(mount / path, files));
  }
  return room;
}

// Lines of /proc/self/cgroup are "ID:CONTROLLERS:PATH"; version 2 has ID 0 and no controllers.
int64_t room_of_process(const fs::path& root) {
  int64_t room = kUnlimited;
  std::ifstream in(root / "proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const fs::path path = line.substr(second + 1);
    if (controllers.find(",memory,") != std::string::npos) {
      room = std::min(room, room_of_groups(root / kVersion1.mount, path, kVersion1));
    } else if (controllers == ",,") {
      room = std::min(room, room_of_groups(root / kVersion2.mount, path, kVersion2));
    }
  }
  return room;
}

}  // namespace

int64_t available_memory(const fs::path& root) {
  const int64_t kibibytes = number_of_line(root / "proc/meminfo", "MemAvailable:");
  const int64_t machine = kibibytes > 0 ? kibibytes * 1024 : kUnlimited;
  const int64_t room = std::min(machine, room_of_process(root));
  CHECK(room != kUnlimited,
        "neither /proc/meminfo nor a control group says how much memory there is");
  return room;
}

}  // namespace tidemill

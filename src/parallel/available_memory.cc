#include "parallel/available_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "base/check.h"
#include "parallel/control_groups.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

// What a group's files are called.
struct GroupFiles {
  const char* limit;
  const char* usage;
  const char* inactive_file;  // in memory.stat; of the group and all below it
  const char* active_file;
};
constexpr GroupFiles kVersion1 = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                                  "total_inactive_file", "total_active_file"};
constexpr GroupFiles kVersion2 = {"memory.max", "memory.current", "inactive_file", "active_file"};

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

int64_t room_of(const ControlGroup& group) {
  const GroupFiles& files = group.version == 2 ? kVersion2 : kVersion1;
  const auto limit = read_number(group.folder / files.limit);
  const auto usage = read_number(group.folder / files.usage);
  if (!limit || !usage) return kUnlimited;
  const fs::path stat = group.folder / "memory.stat";
  const int64_t page_cache =
      number_of_line(stat, files.inactive_file) + number_of_line(stat, files.active_file);
  return std::clamp<int64_t>(*limit - (*usage - page_cache), 0, *limit);
}

}  // namespace

int64_t available_memory(const fs::path& root) {
  const int64_t kibibytes = number_of_line(root / "proc/meminfo", "MemAvailable:");
  int64_t room = kibibytes > 0 ? kibibytes * 1024 : kUnlimited;
  for (const ControlGroup& group : control_groups("memory", root)) {
    room = std::min(room, room_of(group));
  }
  CHECK(room != kUnlimited,
        "neither /proc/meminfo nor a control group says how much memory there is");
  return room;
}

bool gives_huge_pages(const fs::path& root) {
  std::ifstream in(root / "sys/kernel/mm/transparent_hugepage/enabled");
  for (std::string word; in >> word;) {
    if (word == "[always]" || word == "[madvise]") return true;
  }
  return false;
}

}  // namespace tidemill

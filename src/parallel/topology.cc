#include "parallel/topology.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>

#include "base/check.h"
#include "parallel/control_groups.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

constexpr double kNoQuota = std::numeric_limits<double>::infinity();

std::string first_line(const fs::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

// "0-3,8" is 0 1 2 3 8; empty when the text is something else.
std::vector<int> parse_cpu_list(const std::string& text) {
  std::vector<int> cpus;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) {
    std::istringstream range(part);
    int first = 0, last = 0;
    char dash = 0;
    if (!(range >> first)) return {};
    last = range >> dash >> last ? last : first;
    for (int cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
  }
  return cpus;
}

// The affinity mask as the kernel writes it: however many CPUs the machine may have.
std::vector<int> allowed_cpus(const fs::path& root) {
  constexpr std::string_view kName = "Cpus_allowed_list:";
  std::ifstream in(root / "proc/thread-self/status");
  std::vector<int> cpus;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(kName)) cpus = parse_cpu_list(line.substr(kName.size()));
  }
  if (!cpus.empty()) return cpus;
  // Without /proc: as many as the C library counts.
  for (int cpu = 0; cpu < static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
       ++cpu) {
    cpus.push_back(cpu);
  }
  return cpus;
}

// Names the core that a CPU belongs to: its list of hyper-threads.
std::string siblings_of(const fs::path& root, int cpu) {
  const std::string text =
      first_line(root / format("sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
  return text.empty() ? std::to_string(cpu) : text;
}

// CPUs' worth of time that one group allows. A quota of "max" (v2) or -1 (v1) is no limit.
double quota_of(const ControlGroup& group) {
  double quota = 0.0, period = 0.0;
  if (group.version == 2) {
    std::ifstream in(group.folder / "cpu.max");
    in >> quota >> period;
  } else {
    std::ifstream(group.folder / "cpu.cfs_quota_us") >> quota;
    std::ifstream(group.folder / "cpu.cfs_period_us") >> period;
  }
  return quota > 0 && period > 0 ? quota / period : kNoQuota;
}

double least_quota(const fs::path& root) {
  double least = kNoQuota;
  for (const ControlGroup& group : control_groups("cpu", root)) {
    least = std::min(least, quota_of(group));
  }
  return least;
}

}  // namespace

std::vector<int> usable_cores(const fs::path& root) {
  std::vector<int> cores;
  std::set<std::string> seen;
  for (const int cpu : allowed_cpus(root)) {
    if (seen.insert(siblings_of(root, cpu)).second) cores.push_back(cpu);
  }
  const double limit = std::max(1.0, std::floor(least_quota(root)));
  if (static_cast<double>(cores.size()) > limit) cores.resize(static_cast<size_t>(limit));
  return cores;
}

}  // namespace tidemill

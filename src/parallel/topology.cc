#include "parallel/topology.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>

#include "base/check.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

constexpr double kUnlimited = std::numeric_limits<double>::infinity();

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
double quota_v2(const fs::path& group) {
  std::ifstream in(group / "cpu.max");
  double quota = 0.0, period = 0.0;
  return in >> quota >> period && quota > 0 && period > 0 ? quota / period : kUnlimited;
}

double quota_v1(const fs::path& group) {
  std::ifstream quota_file(group / "cpu.cfs_quota_us"), period_file(group / "cpu.cfs_period_us");
  double quota = 0.0, period = 0.0;
  const bool limited = quota_file >> quota && period_file >> period && quota > 0 && period > 0;
  return limited ? quota / period : kUnlimited;
}

// Every group up to the root limits those below it. In a container the path may be that of the
// host, of which only the root, the container's own group, is mounted: what is not there does not
// limit.
double least_quota(const fs::path& mount, fs::path group, double (*quota)(const fs::path&)) {
  double least = quota(mount);
  for (; group.has_relative_path(); group = group.parent_path()) {
    least = std::min(least, quota(mount / group.relative_path()));
  }
  return least;
}

// CPUs' worth of time that this process's cgroups allow.
double cgroup_cpus(const fs::path& root) {
  const fs::path mounts = root / "sys/fs/cgroup";
  // Where nothing names the groups, what is mounted is ours.
  double least = std::min(quota_v2(mounts), quota_v1(mounts / "cpu"));
  std::ifstream in(root / "proc/self/cgroup");
  // "0::/group" is v2; "4:cpu,cpuacct:/group" is v1.
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string hierarchy, controllers, group;
    std::getline(fields, hierarchy, ':');
    std::getline(fields, controllers, ':');
    std::getline(fields, group);
    if (controllers.empty()) {
      least = std::min(least, least_quota(mounts, group, quota_v2));
    } else if ((',' + controllers + ',').find(",cpu,") != std::string::npos) {
      const fs::path mount = mounts / (fs::exists(mounts / "cpu") ? "cpu" : controllers);
      least = std::min(least, least_quota(mount, group, quota_v1));
    }
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
  const double limit = std::max(1.0, std::floor(cgroup_cpus(root)));
  if (static_cast<double>(cores.size()) > limit) cores.resize(static_cast<size_t>(limit));
  return cores;
}

}  // namespace tidemill

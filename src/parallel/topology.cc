// Which cores this process may use.
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <optional>
#include <set>
#include <string>

#include "base/check.h"
#include "parallel/worker_pool.h"

namespace tidemill {
namespace {

std::vector<int> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  CHECK(sched_getaffinity(0, sizeof set, &set) == 0, "the affinity mask cannot be read");
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

// Names the core that a CPU belongs to: its list of hyper-threads.
std::string siblings_of(int cpu) {
  std::ifstream in(format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
  std::string text;
  std::getline(in, text);
  return text.empty() ? std::to_string(cpu) : text;
}

// CPUs' worth of time that the cgroup allows; nullopt without a limit.
std::optional<double> cgroup_cpus() {
  double quota = 0.0, period = 0.0;
  if (std::ifstream v2("/sys/fs/cgroup/cpu.max"); v2 >> quota >> period && period > 0) {
    return quota / period;
  }
  std::ifstream v1_quota("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
  std::ifstream v1_period("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (v1_quota >> quota && v1_period >> period && quota > 0 && period > 0) return quota / period;
  return std::nullopt;
}

}  // namespace

std::vector<int> usable_cores() {
  std::vector<int> cores;
  std::set<std::string> seen;
  for (const int cpu : allowed_cpus()) {
    if (seen.insert(siblings_of(cpu)).second) cores.push_back(cpu);
  }
  if (const auto limit = cgroup_cpus()) {
    const auto most = static_cast<size_t>(std::max(1.0, std::floor(*limit)));
    if (cores.size() > most) cores.resize(most);
  }
  return cores;
}

}  // namespace tidemill

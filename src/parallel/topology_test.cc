#include "parallel/topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <thread>

namespace tidemill {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;

// A machine as /proc and /sys describe it: eight CPUs without hyper-threads, no group.
class UsableCores : public testing::Test {
 protected:
  UsableCores() : root_(fs::path(testing::TempDir()) / ("topology-" + std::to_string(::getpid()))) {
    fs::remove_all(root_);
    allow("0-7");
  }
  ~UsableCores() override { fs::remove_all(root_); }

  void write(const fs::path& file, const std::string& text) {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text << "\n";
  }
  void allow(const std::string& cpus) {
    write("proc/thread-self/status", "Name:\ttidemill\nCpus_allowed_list:\t" + cpus);
  }
  void pair(int cpu, const std::string& siblings) {
    write("sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list",
          siblings);
  }
  void join(const std::string& groups) { write("proc/self/cgroup", groups); }
  void limit_v2(const std::string& group, const std::string& text) {
    write("sys/fs/cgroup" + group + "/cpu.max", text);
  }
  void limit_v1(const std::string& group, const std::string& quota, const std::string& period) {
    write("sys/fs/cgroup/cpu" + group + "/cpu.cfs_quota_us", quota);
    write("sys/fs/cgroup/cpu" + group + "/cpu.cfs_period_us", period);
  }
  std::vector<int> cores() const { return usable_cores(root_); }

  const fs::path root_;
};

TEST_F(UsableCores, AreThoseOfTheAffinityMask) {
  allow("1-2,5,7");
  EXPECT_THAT(cores(), ElementsAre(1, 2, 5, 7));
}

TEST_F(UsableCores, MayBeNumberedBeyondWhatOneCpuSetHolds) {
  allow("1022-1025,4095");
  EXPECT_THAT(cores(), ElementsAre(1022, 1023, 1024, 1025, 4095));
}

TEST_F(UsableCores, CountHyperThreadsOnce) {
  for (const int cpu : {0, 1, 2, 3}) {
    const std::string siblings = std::to_string(cpu) + "," + std::to_string(cpu + 4);
    pair(cpu, siblings);
    pair(cpu + 4, siblings);
  }
  EXPECT_THAT(cores(), ElementsAre(0, 1, 2, 3));
  allow("2,4-7");
  EXPECT_THAT(cores(), ElementsAre(2, 4, 5, 7)) << "2 and 6 are one core";
}

TEST_F(UsableCores, AreLimitedByTheQuotaOfTheirGroup) {
  join("0::/pods/server");
  limit_v2("/pods/server", "350000 100000");
  EXPECT_THAT(cores(), ElementsAre(0, 1, 2));
}

TEST_F(UsableCores, AreLimitedByEveryGroupAbove) {
  join("0::/pods/burstable/server");
  limit_v2("/pods/burstable/server", "max 100000");
  limit_v2("/pods/burstable", "200000 100000");
  limit_v2("/pods", "400000 100000");
  EXPECT_THAT(cores(), ElementsAre(0, 1));
}

TEST_F(UsableCores, KnowTheQuotaOfAContainerThatSeesItsHostsPath) {
  join("0::/system.slice/docker-1234.scope");
  limit_v2("", "300000 100000");
  EXPECT_THAT(cores(), ElementsAre(0, 1, 2));
}

TEST_F(UsableCores, KnowTheOlderGroups) {
  join("5:memory:/elsewhere\n4:cpu,cpuacct:/pods/server\n0::/");
  limit_v1("", "-1", "100000");
  limit_v1("/pods", "500000", "100000");
  limit_v1("/pods/server", "-1", "100000");
  limit_v1("/elsewhere", "100000", "100000");
  EXPECT_THAT(cores(), ElementsAre(0, 1, 2, 3, 4));
}

TEST_F(UsableCores, AreAllWithoutALimit) {
  join("0::/pods");
  limit_v2("/pods", "max 100000");
  limit_v1("", "-1", "100000");
  EXPECT_EQ(cores().size(), 8u);
}

TEST_F(UsableCores, AreAtLeastOne) {
  join("0::/");
  limit_v2("", "10000 100000");
  EXPECT_THAT(cores(), ElementsAre(0));
}

TEST_F(UsableCores, AreFoundWithoutAnyFile) {
  fs::remove_all(root_);
  EXPECT_EQ(cores().size(), std::max(1u, std::thread::hardware_concurrency()));
}

TEST_F(UsableCores, OfThisMachineAreAmongThoseThisThreadMayUse) {
  cpu_set_t set;
  CPU_ZERO(&set);
  ASSERT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
  const std::vector<int> cores = usable_cores();
  ASSERT_FALSE(cores.empty());
  for (const int cpu : cores) EXPECT_TRUE(CPU_ISSET(cpu, &set)) << cpu;
}

}  // namespace
}  // namespace tidemill

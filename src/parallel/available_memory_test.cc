#include "parallel/available_memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace tidemill {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMiB = 1 << 20;

class AvailableMemory : public testing::Test {
 protected:
  AvailableMemory() {
    fs::remove_all(root_);
    write("proc/meminfo", "MemTotal: 16384000 kB\nMemFree: 1 kB\nMemAvailable: 8192000 kB\n");
  }
  ~AvailableMemory() override { fs::remove_all(root_); }

  void write(const std::string& path, const std::string& text) const {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  void group(const std::string& path, int64_t max, int64_t current, int64_t inactive_file = 0,
             int64_t active_file = 0) const {
    write(path + "/memory.max", std::to_string(max));
    write(path + "/memory.current", std::to_string(current));
    write(path + "/memory.stat", "anon 5\ninactive_file " + std::to_string(inactive_file) +
                                     "\nactive_file " + std::to_string(active_file) + "\n");
  }

  const fs::path root_ =
      fs::path(testing::TempDir()) / ("available-memory-" + std::to_string(::getpid()));
};

TEST_F(AvailableMemory, WithoutAGroupTheMachineDecides) {
  EXPECT_EQ(available_memory(root_), 8192000 * 1024LL);
}

TEST_F(AvailableMemory, PageCacheOfTheGroupIsRoom) {
  write("proc/self/cgroup", "0::/\n");
  group("sys/fs/cgroup", 1000 * kMiB, 900 * kMiB, 500 * kMiB, 200 * kMiB);
  EXPECT_EQ(available_memory(root_), 800 * kMiB);
}

TEST_F(AvailableMemory, AGroupWithoutALimitDoesNotCount) {
  write("proc/self/cgroup", "0::/\n");
  group("sys/fs/cgroup", 1000 * kMiB, 0);
  write("sys/fs/cgroup/memory.max", "max\n");
  EXPECT_EQ(available_memory(root_), 8192000 * 1024LL);
}

TEST_F(AvailableMemory, TheTightestOfNestedGroupsCounts) {
  write("proc/self/cgroup", "0::/a/b\n");
  group("sys/fs/cgroup/a/b", 3000 * kMiB, 100 * kMiB);
  group("sys/fs/cgroup/a", 1000 * kMiB, 400 * kMiB);
  EXPECT_EQ(available_memory(root_), 600 * kMiB);
  group("sys/fs/cgroup/a/b", 300 * kMiB, 100 * kMiB);
  EXPECT_EQ(available_memory(root_), 200 * kMiB);
}

TEST_F(AvailableMemory, GroupsOfTheFirstVersionAreRead) {
  write("proc/self/cgroup", "9:name=systemd:/\n4:hugetlb,memory:/docker/x\n0::/\n");
  const std::string mount = "sys/fs/cgroup/memory";
  write(mount + "/docker/x/memory.limit_in_bytes", std::to_string(1000 * kMiB));
  write(mount + "/docker/x/memory.usage_in_bytes", std::to_string(700 * kMiB));
  write(mount + "/docker/x/memory.stat",
        "inactive_file 1\ntotal_inactive_file " + std::to_string(100 * kMiB) + "\n");
  EXPECT_EQ(available_memory(root_), 400 * kMiB);
}

TEST_F(AvailableMemory, TheHostsPathIsNotNeededInsideAContainer) {
  write("proc/self/cgroup", "0::/system.slice/docker-1.scope\n");
  group("sys/fs/cgroup", 1000 * kMiB, 400 * kMiB);
  EXPECT_EQ(available_memory(root_), 600 * kMiB);
}

TEST_F(AvailableMemory, HugePagesAreGivenWhereTheSystemSaysSo) {
  const std::string file = "sys/kernel/mm/transparent_hugepage/enabled";
  EXPECT_FALSE(gives_huge_pages(root_));
  write(file, "always [madvise] never\n");
  EXPECT_TRUE(gives_huge_pages(root_));
  write(file, "[always] madvise never\n");
  EXPECT_TRUE(gives_huge_pages(root_));
  write(file, "always madvise [never]\n");
  EXPECT_FALSE(gives_huge_pages(root_));
}

TEST_F(AvailableMemory, AGroupThatIsFullHasNoRoom) {
  write("proc/self/cgroup", "0::/\n");
  group("sys/fs/cgroup", 1000 * kMiB, 1001 * kMiB);
  EXPECT_EQ(available_memory(root_), 0);
}

}  // namespace
}  // namespace tidemill

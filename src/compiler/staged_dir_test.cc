#include "compiler/staged_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace tidemill {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;

class Staged : public testing::Test {
 protected:
  Staged()
      : parent_(fs::temp_directory_path() /
                ("tidemill-staged-" + std::to_string(::getpid()) + "-" +
                 testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::remove_all(parent_);
    fs::create_directories(parent_);
  }
  ~Staged() override { fs::remove_all(parent_); }

  static void write(const fs::path& path, std::string_view text) { std::ofstream(path) << text; }
  static std::string read(const fs::path& path) {
    std::ifstream file(path);
    std::string text;
    std::getline(file, text);
    return text;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> list;
    for (const auto& entry : fs::directory_iterator(parent_)) {
      list.push_back(entry.path().filename().string());
    }
    return list;
  }

  const fs::path parent_;
};

TEST_F(Staged, I19_NothingStandsUnderTheFinalNameUntilItIsPublished) {
  StagedDir stage(parent_ / "engine");
  write(stage.path() / "file", "new");
  EXPECT_FALSE(fs::exists(parent_ / "engine"));
  stage.publish();
  EXPECT_EQ(read(parent_ / "engine" / "file"), "new");
  EXPECT_THAT(names(), ElementsAre("engine"));
}

TEST_F(Staged, WhatIsNotPublishedLeavesNothing) {
  {
    const StagedDir stage(parent_ / "engine");
    write(stage.path() / "file", "half");
  }
  EXPECT_THAT(names(), IsEmpty());
}

TEST_F(Staged, AnOlderFolderIsReplacedWhole) {
  fs::create_directories(parent_ / "engine");
  write(parent_ / "engine" / "old", "old");
  StagedDir stage(parent_ / "engine");
  write(stage.path() / "file", "new");
  stage.publish();
  EXPECT_FALSE(fs::exists(parent_ / "engine" / "old"));
  EXPECT_EQ(read(parent_ / "engine" / "file"), "new");
  EXPECT_THAT(names(), ElementsAre("engine"));
}

TEST_F(Staged, X_2_LeftoversOfAnInterruptionAreNotMixedIn) {
  fs::create_directories(parent_ / ".engine.compiling");
  write(parent_ / ".engine.compiling" / "half", "half");
  StagedDir stage(parent_ / "engine");
  stage.publish();
  EXPECT_THAT(fs::is_empty(parent_ / "engine"), true);
}

TEST_F(Staged, ASlashAtTheEndOfTheTargetChangesNothing) {
  StagedDir stage(parent_ / "engine" / "");
  stage.publish();
  EXPECT_THAT(names(), ElementsAre("engine"));
}

TEST_F(Staged, TheSecondCompilerWaitsUntilTheFirstHasEnded) {
  std::optional<StagedDir> first(std::in_place, parent_ / "engine");
  std::atomic<bool> waits{false};
  std::atomic<bool> saw_result{false};
  std::thread second([&] {
    const StagedDir stage(parent_ / "engine", [&] { waits = true; });
    saw_result = fs::exists(parent_ / "engine");
  });
  while (!waits) std::this_thread::yield();
  first->publish();
  first.reset();
  second.join();
  EXPECT_TRUE(saw_result);
  EXPECT_THAT(names(), ElementsAre("engine"));
}

TEST_F(Staged, ManyCompilersLeaveOneWholeResult) {
  std::vector<std::thread> compilers;
  std::atomic<int> broken{0};
  for (int id = 0; id < 8; ++id) {
    compilers.emplace_back([&, id] {
      for (int round = 0; round < 20; ++round) {
        StagedDir stage(parent_ / "engine");
        if (!fs::is_empty(stage.path())) ++broken;
        write(stage.path() / "a", std::to_string(id));
        write(stage.path() / "b", std::to_string(id));
        if (round % 3 != 0) stage.publish();
      }
    });
  }
  for (std::thread& compiler : compilers) compiler.join();
  EXPECT_EQ(broken, 0);
  EXPECT_THAT(names(), ElementsAre("engine"));
  EXPECT_EQ(read(parent_ / "engine" / "a"), read(parent_ / "engine" / "b"));
}

TEST_F(Staged, OnlyAbandonedFoldersAreRemoved) {
  fs::create_directories(parent_ / ".dead.compiling");
  fs::create_directories(parent_ / "finished");
  const StagedDir alive(parent_ / "alive");
  remove_abandoned_stages(parent_);
  EXPECT_THAT(names(), testing::UnorderedElementsAre("finished", ".alive.compiling"));
}

}  // namespace
}  // namespace tidemill

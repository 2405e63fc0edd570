#include "machine_calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "base/build_id.h"
#include "base/text_file.h"
#include "kernels/select.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

Calibration some_calibration() {
  Calibration calibration{.read_by_one = 35.5e9, .read_by_all = 36e9};
  calibration.multiplies = {0.234e12, 0.47e12, 0.94e12, 0.0};
  ProductTimes times{.format = {Numbers::kInt4, Offsets::kZero, 128}};
  times.seconds_per_byte = {1e-11, 2e-11, 0.0, 4e-11, 5e-11, 6e-11, 7e-11};
  calibration.products = {times, {.format = PackedFormat::kBf16}};
  calibration.set_aside = {"operations/s of int4: 1 is not what a machine of today does"};
  return calibration;
}

const CalibrationKey kKey{.processor = "AMD EPYC",
                          .microcode = "0x1000065",
                          .num_threads = 2,
                          .variant = "avx512: AVX-512",
                          .version = "1.2.3",
                          .build = "0a1b"};

class CalibrationFiles : public testing::Test {
 protected:
  CalibrationFiles()
      : dir_(fs::path(testing::TempDir()) / ("calibration-" + std::to_string(getpid()))) {
    fs::remove_all(dir_);
  }
  ~CalibrationFiles() override { fs::remove_all(dir_); }

  static std::string contents(const fs::path& path) { return read_text_file(path); }
  static void write(const fs::path& path, const std::string& text) {
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }

  const fs::path dir_;
  const CalibrationMemory memory_{dir_};
};

TEST_F(CalibrationFiles, WhatIsRememberedIsRecalled) {
  EXPECT_FALSE(memory_.recall(kKey));
  EXPECT_TRUE(memory_.remember(kKey, some_calibration()));
  const auto recalled = memory_.recall(kKey);
  ASSERT_TRUE(recalled);
  EXPECT_EQ(*recalled, some_calibration());
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_), {}), 1) << "nothing is left beside it";
}

TEST_F(CalibrationFiles, AnotherMachineThreadCountVariantVersionOrBuildIsAnotherKey) {
  memory_.remember(kKey, some_calibration());
  CalibrationKey keys[] = {kKey, kKey, kKey, kKey, kKey, kKey};
  keys[0].processor = "Intel Xeon";
  keys[1].microcode = "0x1000066";
  keys[2].num_threads = 3;
  keys[3].variant = "avx2: AVX2";
  keys[4].version = "1.2.4";
  keys[5].build = "0a1c";
  for (const CalibrationKey& key : keys) EXPECT_FALSE(memory_.recall(key));
  // Nor is a file believed that lies where another key's should.
  fs::copy_file(memory_.path_of(kKey), memory_.path_of(keys[0]));
  EXPECT_FALSE(memory_.recall(keys[0]));
}

TEST_F(CalibrationFiles, ADamagedFileIsNoFile) {
  memory_.remember(kKey, some_calibration());
  const fs::path path = memory_.path_of(kKey);
  const std::string good = contents(path);
  for (size_t length = 0; length + 2 < good.size(); length += 7) {
    write(path, good.substr(0, length));
    EXPECT_FALSE(memory_.recall(kKey)) << length;
  }
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  for (const std::string& text :
       {with("\"read_by_one\":", "\"read_by_one\":-"), with("\"int4\"", "\"int5\""),
        with("\"group\":128", "\"group\":1e9"), with("\"file_version\":3", "\"file_version\":2"),
        with("\"set_aside\":[", "\"set_aside\":[1,")}) {
    write(path, text);
    EXPECT_FALSE(memory_.recall(kKey)) << text;
  }
  write(path, good);
  EXPECT_TRUE(memory_.recall(kKey));
}

TEST_F(CalibrationFiles, AFolderThatCannotBeMadeIsNoFailure) {
  write(dir_ / "file", "");
  const CalibrationMemory nowhere(dir_ / "file" / "calibration");
  EXPECT_FALSE(nowhere.remember(kKey, some_calibration()));
  EXPECT_FALSE(nowhere.recall(kKey));
}

TEST(CpuinfoField, IsTheWholeNameOfTheFirstSuchLine) {
  constexpr std::string_view kText =
      "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC: 9\nmodel name\t: other\nflags\t\t:\n";
  EXPECT_EQ(cpuinfo_field(kText, "model name"), "AMD EPYC: 9");
  EXPECT_EQ(cpuinfo_field(kText, "model"), "17");
  EXPECT_EQ(cpuinfo_field(kText, "microcode"), "");
  EXPECT_EQ(cpuinfo_field(kText, "flags"), "");
}

class MachineCalibrationTest : public CalibrationFiles {
 protected:
  MachineCalibrationTest() { settings_.cache_dir = dir_.string(); }
  MachineCalibration calibrate_here(const Kernels& kernels = *runnable_variants().back()) {
    return machine_calibration(settings_, kernels, workers_);
  }
  // Of the numbers, and of what was logged meanwhile.
  std::pair<std::optional<Calibration>, std::string> numbers_and_log() {
    testing::internal::CaptureStderr();
    std::optional<Calibration> numbers = calibrate_here().numbers;
    return {std::move(numbers), testing::internal::GetCapturedStderr()};
  }
  CalibrationKey key() const { return calibration_key(*runnable_variants().back(), workers_); }

  ModelSettings settings_;
  WorkerPool workers_{WorkerPoolOptions{.num_threads = 2, .pin = false}};
};

TEST_F(MachineCalibrationTest, IsOfThisBuild) {
  EXPECT_NE(build_id(), "");
  EXPECT_EQ(key().build, build_id());
}

// Whoever starts a server for the first time, on a machine that builds something, is not alarmed.
TEST(RemarkOnACalibration, OneThatOthersDisturbedIsNoWarning) {
  MachineCalibration machine{.numbers = some_calibration(), .origin = ""};
  machine.numbers->disturbed = true;
  const auto remark = remark_on(machine);
  ASSERT_TRUE(remark);
  EXPECT_EQ(remark->level, LogLevel::kInfo);
  EXPECT_THAT(remark->text, AllOf(HasSubstr("Nothing is lost"), HasSubstr("measures again"),
                                  Not(HasSubstr("strange"))));
}

TEST(RemarkOnACalibration, StrangeValuesThatNobodyDisturbedAreAWarning) {
  MachineCalibration machine{.numbers = some_calibration(), .origin = ""};
  const auto remark = remark_on(machine);
  ASSERT_TRUE(remark);
  EXPECT_EQ(remark->level, LogLevel::kWarning);
  EXPECT_THAT(remark->text, HasSubstr("values too strange to be used: 1;"));
  machine.numbers->set_aside.clear();
  EXPECT_FALSE(remark_on(machine));
  EXPECT_FALSE(remark_on({}));
}

bool has_fast_variant() { return runnable_variants().size() > 1; }

TEST_F(MachineCalibrationTest, WhatTheCacheHasIsNotMeasuredAgain) {
  if (!has_fast_variant()) GTEST_SKIP() << "reference alone, which is not measured";
  const CalibrationMemory memory(dir_ / "calibration");
  memory.remember(key(), some_calibration());
  fs::permissions(dir_, fs::perms::owner_all);
  const MachineCalibration machine = calibrate_here();
  ASSERT_TRUE(machine.numbers);
  EXPECT_EQ(*machine.numbers, some_calibration());
  EXPECT_EQ(machine.origin, memory.path_of(key()).string());
}

TEST_F(MachineCalibrationTest, IsRememberedUnlessItWasDisturbed) {
  if (!has_fast_variant()) GTEST_SKIP() << "reference alone, which is not measured";
  const MachineCalibration machine = calibrate_here();
  ASSERT_TRUE(machine.numbers);
  const auto recalled = CalibrationMemory(dir_ / "calibration").recall(key());
  EXPECT_EQ(recalled.has_value(), !machine.numbers->disturbed);
  if (recalled) {
    EXPECT_EQ(*recalled, *machine.numbers);
  }
}

TEST_F(MachineCalibrationTest, WithoutACacheItIsMeasuredAllTheSame) {
  if (!has_fast_variant()) GTEST_SKIP() << "reference alone, which is not measured";
  write(dir_, "");
  EXPECT_TRUE(calibrate_here().numbers);
}

// A cache where a file stands in the place of a folder: nobody can write engines there, root
// neither.
TEST_F(MachineCalibrationTest, ACacheThatCannotBeWrittenToIsReadAllTheSame) {
  if (!has_fast_variant()) GTEST_SKIP() << "reference alone, which is not measured";
  CalibrationMemory(dir_ / "calibration").remember(key(), some_calibration());
  write(dir_ / "engines", "");
  fs::permissions(dir_, fs::perms::owner_read | fs::perms::owner_exec);
  const auto [numbers, log] = numbers_and_log();
  EXPECT_EQ(numbers, some_calibration());
  EXPECT_EQ(log, "");
  fs::permissions(dir_, fs::perms::all);
  EXPECT_NE(calibrate_here().numbers, some_calibration()) << "anybody may have written that";
}

TEST_F(MachineCalibrationTest, WhatCannotBeKeptIsSaidOnceWithTheWayOut) {
  if (!has_fast_variant()) GTEST_SKIP() << "reference alone, which is not measured";
  EXPECT_EQ(numbers_and_log().second, "");
  const auto expect_said = [this](const std::string& log) {
    EXPECT_THAT(
        log, AllOf(HasSubstr("each start measures the machine anew"), HasSubstr("calibration=FILE"),
                   HasSubstr("cache_dir"), HasSubstr(dir_.string())));
    EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 1) << log;
  };
  fs::remove_all(dir_);
  write(dir_ / "engines", "");  // no cache can be here
  expect_said(numbers_and_log().second);
  fs::remove_all(dir_);
  write(dir_ / "calibration", "");  // a cache with no room for calibrations
  fs::permissions(dir_, fs::perms::owner_all);
  const auto [numbers, log] = numbers_and_log();
  ASSERT_TRUE(numbers);
  if (numbers->disturbed) {
    EXPECT_EQ(log, "");
  } else {
    expect_said(log);
  }
}

TEST_F(MachineCalibrationTest, OffIsOffAndTheReferenceIsNotMeasured) {
  EXPECT_FALSE(calibrate_here(select_kernels("reference")).numbers);
  settings_.calibration = "off";
  EXPECT_FALSE(calibrate_here().numbers);
  EXPECT_FALSE(fs::exists(dir_));
}

TEST_F(MachineCalibrationTest, AFileHoldsWhateverTheMachineDoes) {
  memory_.remember(kKey, some_calibration());
  settings_.calibration = memory_.path_of(kKey).string();
  EXPECT_EQ(calibrate_here().numbers, some_calibration());
  for (const std::string& path : {(dir_ / "none.json").string(), std::string("/dev/null")}) {
    settings_.calibration = path;
    try {
      calibrate_here();
      FAIL() << path;
    } catch (const std::runtime_error& error) {
      EXPECT_THAT(error.what(), HasSubstr(path));
    }
  }
}

}  // namespace
}  // namespace tidemill

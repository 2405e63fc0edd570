#include "compiler/check_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "compiler/compile.h"
#include "compiler/test_checkpoint.h"
#include "model/engine_dir.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

void flip(const fs::path& path, std::streamoff offset) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(offset);
  const int byte = file.get();
  file.seekp(offset);
  file.put(static_cast<char>(byte ^ 1));
}

class CheckEngine : public testing::Test {
 protected:
  CheckEngine() {
    made_.write(dir_.path() / "checkpoint");
    compile();
  }
  fs::path engine() const { return dir_.path() / "engine"; }
  void compile() {
    compile_model(Checkpoint::open(dir_.path() / "checkpoint"),
                  {.format = PackedFormat::kF32,
                   .source_digest = "abc",
                   .source_name = "",
                   .memory = memory_},
                  engine(), pool_, [](const std::string&, int) {});
  }
  std::string damage() const { return find_engine(engine(), "abc", memory_).damage; }
  bool is_whole() const { return find_engine(engine(), "abc", memory_).whole; }

  TemporaryDir dir_;
  TestCheckpoint made_;
  WorkerPool pool_{{.num_threads = 2}};
  DigestMemory memory_{.dir = dir_.path() / "digests", .settle_ms = 0};
};

TEST_F(CheckEngine, X_3_AFlippedByteOfAnyFileIsFound) {
  for (const char* name : {kWeightsFileName, kManifestFileName, kTextFileName}) {
    ASSERT_TRUE(is_whole()) << name;
    flip(engine() / name, 5);
    EXPECT_THAT(damage(), HasSubstr("damaged")) << name;
    EXPECT_THROW(check_engine(engine(), memory_), DamagedEngine) << name;
    flip(engine() / name, 5);
  }
}

TEST_F(CheckEngine, X_3_ADamagedEngineIsSetAsideAndBuiltAgain) {
  flip(engine() / kWeightsFileName, 4096);
  testing::internal::CaptureStderr();
  compile();
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("engine.bad"));
  EXPECT_TRUE(is_whole());
  EXPECT_TRUE(fs::exists(dir_.path() / "engine.bad" / kWeightsFileName));

  flip(engine() / kTextFileName, 2);
  compile();
  EXPECT_TRUE(is_whole()) << "an older .bad does not stand in the way";
}

TEST_F(CheckEngine, X_3_AnEngineThatLostAFileIsSetAsideAndBuiltAgain) {
  for (const char* name : {kManifestFileName, kWeightsFileName, kTextFileName}) {
    fs::remove(engine() / name);
    EXPECT_THAT(damage(), HasSubstr("damaged")) << name;
    compile();
    EXPECT_TRUE(is_whole()) << name;
    EXPECT_FALSE(fs::exists(dir_.path() / "engine.bad" / name));
  }
}

TEST_F(CheckEngine, X_3_AnEngineOfAnotherVersionIsAMissAndNotDamage) {
  std::ofstream(engine() / kManifestFileName) << R"({"version": 1, "layout_family": "host"})";
  EXPECT_FALSE(is_whole());
  EXPECT_EQ(damage(), "");
  compile();
  EXPECT_TRUE(is_whole());
  EXPECT_FALSE(fs::exists(dir_.path() / "engine.bad"));
}

// The contents are exchanged behind the memory's back, with the identity that it goes by: only then
// can one tell whether the file was read.
TEST_F(CheckEngine, WeightsThatWereFoundWholeAreNotReadAgain) {
  ASSERT_TRUE(is_whole());
  ASSERT_FALSE(fs::is_empty(memory_.dir));
  for (const auto& entry : fs::directory_iterator(memory_.dir)) {
    std::ofstream(entry.path()) << std::string(64, '0') << "\n";
  }
  EXPECT_TRUE(is_whole()) << "what is remembered is another digest: the file is read, and is right";
  Manifest manifest = read_manifest(engine());
  manifest.weights_digest = std::string(64, 'a');
  write_manifest(engine(), manifest);
  EXPECT_FALSE(is_whole());
  memory_.remember(identity_of(engine() / kWeightsFileName), manifest.weights_digest);
  EXPECT_TRUE(is_whole()) << "remembered, and so not read";
}

TEST_F(CheckEngine, AWeightsFileOfTheSameSizeAndTimeIsReadAgain) {
  ASSERT_TRUE(is_whole());
  const fs::path file = engine() / kWeightsFileName;
  const fs::file_time_type time = fs::last_write_time(file);
  flip(file, 100);
  fs::last_write_time(file, time);
  EXPECT_FALSE(is_whole());
}

TEST_F(CheckEngine, WithoutAMemoryEveryCheckReadsTheWeights) {
  memory_.dir = "";
  ASSERT_TRUE(is_whole());
  flip(engine() / kWeightsFileName, 100);
  EXPECT_FALSE(is_whole());
}

}  // namespace
}  // namespace tidemill

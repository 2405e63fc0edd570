#include "compiler/engine_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <optional>

#include "compiler/source_digest.h"
#include "compiler/test_checkpoint.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// Sets a variable of the environment and restores it.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    set(value);
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;
  ~Variable() { set(old_ ? old_->c_str() : nullptr); }

 private:
  void set(const char* value) {
    if (value == nullptr) {
      ::unsetenv(name_);
    } else {
      ::setenv(name_, value, 1);
    }
  }
  const char* name_;
  std::optional<std::string> old_;
};

TEST(DefaultCacheDir, FollowsTheEnvironment) {
  const TemporaryDir home;
  const Variable home_variable("HOME", home.path().c_str());
  {
    const Variable xdg("XDG_CACHE_HOME", "/somewhere");
    EXPECT_EQ(default_cache_dir(), "/somewhere/tidemill");
  }
  const Variable no_xdg("XDG_CACHE_HOME", nullptr);
  EXPECT_EQ(default_cache_dir(), home.path() / ".cache" / "tidemill");
  const Variable no_home("HOME", "/nonexistent");
  EXPECT_EQ(default_cache_dir(), "/tmp/tidemill-cache");
}

TEST(EngineCache, IsPrivate) {
  const TemporaryDir dir;
  const EngineCache cache(dir.path() / "a" / "cache");
  struct stat status {};
  ASSERT_EQ(::stat((dir.path() / "a" / "cache").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
  EXPECT_EQ(cache.engine_dir("abc"), dir.path() / "a" / "cache" / "engines" / "abc");
}

std::string refusal_of_cache(const fs::path& dir) {
  try {
    const EngineCache cache(dir);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(EngineCache, X_4_OthersMayNotWriteToIt) {
  const TemporaryDir dir;
  const fs::path cache = dir.path() / "cache";
  fs::create_directories(cache);
  for (const mode_t mode : {0777, 0720, 0702}) {
    ASSERT_EQ(::chmod(cache.c_str(), mode), 0);
    EXPECT_THAT(refusal_of_cache(cache), HasSubstr("others may write to it")) << mode;
  }
  ASSERT_EQ(::chmod(cache.c_str(), 0755), 0);
  EXPECT_EQ(refusal_of_cache(cache), "accepted");
}

TEST(EngineCache, X_4_ALinkIsNotFollowed) {
  const TemporaryDir dir;
  fs::create_directories(dir.path() / "real");
  fs::create_directory_symlink(dir.path() / "real", dir.path() / "planted");
  EXPECT_THAT(refusal_of_cache(dir.path() / "planted"), HasSubstr("it is not a folder"));
  EXPECT_THAT(refusal_of_cache(dir.path() / "planted" / ""), HasSubstr("it is not a folder"));
  EXPECT_TRUE(fs::is_empty(dir.path() / "real"));
}

TEST(EngineCache, X_4_AnotherUsersFolderIsRefusedWhereverItStands) {
  const TemporaryDir dir;
  const fs::path cache = dir.path() / "cache";
  fs::create_directories(cache);
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a folder away";
  ASSERT_EQ(::chown(cache.c_str(), 12345, 12345), 0);
  EXPECT_THAT(refusal_of_cache(cache), HasSubstr("it belongs to another user"));
}

TEST(EngineCache, X_4_WhereItCannotBeUsedNothingIsRemembered) {
  const TemporaryDir dir;
  const fs::path cache = dir.path() / "cache";
  fs::create_directories(cache);
  ASSERT_EQ(::chmod(cache.c_str(), 0777), 0);
  testing::internal::CaptureStderr();
  EXPECT_EQ(digest_memory_of(cache).dir, "");
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("others may write to it"));
  ASSERT_EQ(::chmod(cache.c_str(), 0700), 0);
  EXPECT_EQ(digest_memory_of(cache).dir, cache / "digests");
}

TEST(EngineCache, ForgetsWhatAnInterruptionLeft) {
  const TemporaryDir dir;
  fs::create_directories(dir.path() / "cache" / "engines" / ".abc.compiling");
  const EngineCache cache(dir.path() / "cache");
  EXPECT_TRUE(fs::is_empty(dir.path() / "cache" / "engines"));
}

TEST(EngineCache, RefusesAPlaceWhereItCannotBe) {
  const TemporaryDir dir;
  std::ofstream(dir.path() / "file") << "x";
  for (const fs::path& place : {dir.path() / "file", dir.path() / "file" / "cache"}) {
    try {
      const EngineCache cache(place);
      FAIL() << "accepted " << place;
    } catch (const std::runtime_error& error) {
      EXPECT_THAT(error.what(), HasSubstr("--cache-dir"));
    }
  }
}

class SourceDigest : public testing::Test {
 protected:
  std::string digest(const fs::path& folder, PackedFormat format = PackedFormat::kF32) {
    return source_digest(Checkpoint::open(folder), format,
                         {.dir = dir_.path() / "digests", .settle_ms = 0}, pool_,
                         [](const std::string&, int) {});
  }
  TemporaryDir dir_;
  TestCheckpoint made_;
  WorkerPool pool_{{.num_threads = 2}};
};

TEST_F(SourceDigest, DependsOnBytesAndOptionsAlone) {
  made_.write(dir_.path() / "a");
  made_.write(dir_.path() / "b");
  const std::string first = digest(dir_.path() / "a");
  EXPECT_EQ(first.size(), 64u);
  EXPECT_EQ(digest(dir_.path() / "b"), first);
  EXPECT_NE(digest(dir_.path() / "a", PackedFormat::kBf16), first);
  made_.tensors.at("lm_head.weight").values[0] += 1.0f;
  made_.write(dir_.path() / "b");
  EXPECT_NE(digest(dir_.path() / "b"), first);
}

TEST_F(SourceDigest, ChangesWithAFileOfTheSameSizeAndTime) {
  const fs::path file = dir_.path() / "a" / "model.safetensors";
  made_.write(dir_.path() / "a");
  const fs::file_time_type time = fs::last_write_time(file);
  const std::string first = digest(dir_.path() / "a");
  made_.tensors.at("lm_head.weight").values[0] += 1.0f;
  made_.write(dir_.path() / "a");
  fs::last_write_time(file, time);
  EXPECT_NE(digest(dir_.path() / "a"), first);
}

TEST_F(SourceDigest, AFileThatDidNotChangeIsNotReadAgain) {
  made_.write(dir_.path() / "a");
  const std::string first = digest(dir_.path() / "a");
  ASSERT_FALSE(fs::is_empty(dir_.path() / "digests"));
  EXPECT_EQ(digest(dir_.path() / "a"), first);
  // What is remembered counts: a changed memory changes the answer.
  for (const auto& entry : fs::directory_iterator(dir_.path() / "digests")) {
    std::ofstream(entry.path()) << std::string(64, '0');
  }
  EXPECT_NE(digest(dir_.path() / "a"), first);
}

}  // namespace
}  // namespace tidemill

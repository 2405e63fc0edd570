#include "base/mapped_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

namespace tidemill {
namespace {

class MappedFileTest : public testing::Test {
 protected:
  ~MappedFileTest() override { std::filesystem::remove(path_); }

  void write(std::string_view text) const { std::ofstream(path_, std::ios::binary) << text; }
  static std::string text_of(const MappedFile& file) {
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
  }

  const std::filesystem::path path_ = std::filesystem::path(testing::TempDir()) /
                                      ("tidemill-mapped-file-test-" + std::to_string(::getpid()));
};

TEST_F(MappedFileTest, HoldsTheFilesBytes) {
  write(std::string_view("a\0b", 3));
  EXPECT_EQ(text_of(MappedFile(path_)), std::string("a\0b", 3));
}

TEST_F(MappedFileTest, AnEmptyFileIsAnEmptySpan) {
  write("");
  EXPECT_TRUE(MappedFile(path_).bytes().empty());
}

TEST_F(MappedFileTest, MovingHandsTheBytesOn) {
  write("abc");
  MappedFile first(path_);
  MappedFile second = std::move(first);
  EXPECT_EQ(text_of(second), "abc");
  MappedFile third;
  third = std::move(second);
  EXPECT_EQ(text_of(third), "abc");
}

TEST_F(MappedFileTest, AMissingFileIsNamed) {
  try {
    MappedFile file(path_);
    FAIL() << "nothing was thrown";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("tidemill-mapped-file-test"));
  }
}

TEST_F(MappedFileTest, AFolderIsCalledOneWhateverFailedBefore) {
  errno = ENOENT;
  try {
    MappedFile file(testing::TempDir());
    FAIL() << "nothing was thrown";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("Is a directory"));
  }
}

}  // namespace
}  // namespace tidemill

#include "base/mapped_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
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

TEST_F(MappedFileTest, WhatWasSetAsideIsReadAgain) {
  const std::string text(20'000, 'x');
  write(text);
  const MappedFile file(path_);
  EXPECT_EQ(text_of(file), text);
  file.set_aside(100, 15'000);
  file.set_aside(0, 20'000);
  file.set_aside(5, 10);
  EXPECT_EQ(text_of(file), text);
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

TEST_F(MappedFileTest, M_2_AFileThatShrinksReadsAsZerosAndIsSaidToHaveFailed) {
  write(std::string(100'000, 'x'));
  const MappedFile whole(path_);
  EXPECT_EQ(text_of(whole).back(), 'x');
  EXPECT_FALSE(whole.has_failed());
  std::filesystem::resize_file(path_, 10'000);
  const MappedFile moved = MappedFile(path_);
  EXPECT_EQ(text_of(whole).substr(0, 10'000), std::string(10'000, 'x'));
  EXPECT_EQ(text_of(whole).back(), '\0');
  EXPECT_TRUE(whole.has_failed());
  EXPECT_FALSE(moved.has_failed()) << "it never had more";
}

TEST_F(MappedFileTest, M_2_ABusErrorElsewhereStillEndsTheProcess) {
  write("x");
  const MappedFile watched(path_);
  EXPECT_EXIT(::raise(SIGBUS), testing::KilledBySignal(SIGBUS), "");
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

#include "base/text_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <stdexcept>
#include <string>

namespace tidemill {
namespace {

namespace fs = std::filesystem;

TEST(TextFile, EveryByteIsReadAsItIs) {
  const fs::path path =
      fs::path(testing::TempDir()) / ("tidemill-text-file-test-" + std::to_string(::getpid()));
  const std::string text = std::string(100'000, 'x') + std::string("\r\n\0é", 5);
  std::ofstream(path, std::ios::binary) << text;
  EXPECT_EQ(read_text_file(path), text);
  fs::remove(path);
  EXPECT_EQ(read_text_file("/dev/null"), "");
}

TEST(TextFile, WhatCannotBeReadIsNamedWithTheReason) {
  for (const auto& [path, reason] : {std::pair{fs::path("/nothing/here"), "No such file"},
                                     std::pair{fs::path(testing::TempDir()), "Is a directory"}}) {
    try {
      read_text_file(path);
      ADD_FAILURE() << path;
    } catch (const std::runtime_error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(path.string()));
      EXPECT_THAT(error.what(), testing::HasSubstr(reason));
    }
  }
}

}  // namespace
}  // namespace tidemill

#include "base/digest.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace tidemill {
namespace {

// The examples of FIPS 180-2.
TEST(Sha256, KnownTextsHaveKnownDigests) {
  EXPECT_EQ(sha256_of(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Sha256, PiecesCountAsTheirWhole) {
  Sha256 digest;
  digest.add("a");
  digest.add("");
  digest.add("bc");
  EXPECT_EQ(digest.hex(), sha256_of("abc"));
}

TEST(Sha256, AFileCountsAsItsBytes) {
  const auto path = std::filesystem::path(testing::TempDir()) /
                    ("tidemill-digest-test-" + std::to_string(::getpid()));
  const std::string text(3'000'000, 'x');
  std::ofstream(path, std::ios::binary) << text;
  EXPECT_EQ(sha256_of_file(path), sha256_of(text));
  std::filesystem::remove(path);
  EXPECT_THROW(sha256_of_file(path), std::runtime_error);
}

}  // namespace
}  // namespace tidemill

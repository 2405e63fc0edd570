// What the tests of products on tiles have in common.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "kernels/host/amx/plain_tiles.h"
#include "kernels/host/amx/products.h"
#include "kernels/host/amx/trapped_tiles.h"
#include "kernels/select.h"

namespace tidemill::test {

inline constexpr Blocking kBlockings[] = {Blocking::k3x1, Blocking::k2x2, Blocking::k2x1};
inline constexpr uint32_t kUntouched = 0x7fc0dead;  // a NaN that no sum is

inline bool runs_here(std::string_view name) {
  return std::ranges::any_of(runnable_variants(),
                             [&](const Kernels* kernels) { return kernels->name == name; });
}

// Writes down, as long as it lives, the lines that products on plain tiles ask for and those that
// they write unpacked weights to. One at a time.
class NotedLines {
 public:
  NotedLines() {
    fetched().clear();
    written().clear();
    plain_notes = {.fetched = [](const void* line) { fetched().push_back(line); },
                   .written = [](const void* line) { written().insert(line); }};
  }
  ~NotedLines() { plain_notes = {}; }
  NotedLines(const NotedLines&) = delete;
  NotedLines& operator=(const NotedLines&) = delete;

  static std::vector<const void*>& fetched() {
    static std::vector<const void*> lines;
    return lines;
  }
  static std::set<const void*>& written() {
    static std::set<const void*> lines;
    return lines;
  }
};

// The variant's own object files: on the processor's tiles, else by a handler for what it lacks.
class TileInstructions : public testing::Test {
 protected:
  void SetUp() override {
    if (!runs_here("avx512")) GTEST_SKIP() << "no AVX-512, which stands beside the tiles";
    if (!runs_here("amx")) trapped_.emplace();
  }
  void TearDown() override {
    if (trapped_) {
      EXPECT_GT(trapped_->num_executed(), 100);
    }
  }

 private:
  std::optional<TrappedTiles> trapped_;
};

}  // namespace tidemill::test

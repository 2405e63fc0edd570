// What a fuzz target is: NAME_fuzz.cc beside the code that it tries defines the two functions below
// and nothing that is visible elsewhere. Two programs call them (tests/fuzz): one replays seeds and
// kept findings in every build, the other is libFuzzer's. Only *_fuzz.cc includes this.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"

namespace tidemill {

// Tries one input. What must hold is a CHECK; whatever else ends the process is a finding, too. The
// input ends where its memory does. Called any number of times, on one thread.
void fuzz_one(std::string_view input);

// Inputs to begin with, made here rather than stored. Texts that a person would write are files, in
// tests/fuzz/NAME.
std::vector<std::string> fuzz_seeds();

// An input taken apart from its front: zeros and empty texts when nothing is left.
class FuzzInput {
 public:
  explicit FuzzInput(std::string_view bytes) : left_(bytes) {}

  bool empty() const { return left_.empty(); }
  uint8_t byte() {
    if (left_.empty()) return 0;
    const auto first = static_cast<uint8_t>(left_.front());
    left_.remove_prefix(1);
    return first;
  }
  std::string_view take(size_t length) {
    const std::string_view taken = left_.substr(0, std::min(length, left_.size()));
    left_.remove_prefix(taken.size());
    return taken;
  }
  // Up to the next byte of that value, which is dropped; all that is left when there is none.
  std::string_view until(char end) {
    const std::string_view taken = take(std::min(left_.find(end), left_.size()));
    if (!left_.empty()) left_.remove_prefix(1);
    return taken;
  }
  std::string_view rest() { return take(left_.size()); }

 private:
  std::string_view left_;
};

}  // namespace tidemill

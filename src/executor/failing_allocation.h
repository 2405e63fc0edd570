// For tests: an allocation that fails. The operator new that obeys stands in
// allocation_failure_test.cc.
#pragma once

#include <cstdint>

namespace tidemill {

// The allocation of this thread with that number, from 0, if it comes while this lives.
class FailingAllocation {
 public:
  static constexpr int64_t kNone = -1;
  static thread_local int64_t left;  // until it fails

  explicit FailingAllocation(int64_t number) { left = number; }
  FailingAllocation(const FailingAllocation&) = delete;
  FailingAllocation& operator=(const FailingAllocation&) = delete;
  ~FailingAllocation() { left = kNone; }
  static bool came() { return left == kNone; }
};

}  // namespace tidemill

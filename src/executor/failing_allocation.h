// For tests: an allocation that fails. The operator new that obeys stands in failing_new.h.
#pragma once

#include <cstdint>
#include <new>

namespace tidemill {

// The allocation of this thread with that number, from 0, if it comes while this lives; and others
// right behind it.
class FailingAllocation {
 public:
  static constexpr int64_t kNone = -1;
  // Until it fails, and how many fail from there on. constinit: under UBSan other sources would
  // take an address of theirs from a wrapper that is not there.
  static constinit inline thread_local int64_t left = kNone;
  static constinit inline thread_local int64_t in_a_row = 0;
  // Allocations of this thread so far.
  static constinit inline thread_local int64_t num_asked = 0;

  explicit FailingAllocation(int64_t number, int64_t count = 1) {
    left = number;
    in_a_row = count;
  }
  FailingAllocation(const FailingAllocation&) = delete;
  FailingAllocation& operator=(const FailingAllocation&) = delete;
  ~FailingAllocation() { left = kNone; }
  static bool came() { return left == kNone; }

  // What operator new asks.
  static void maybe_fail() {
    ++num_asked;
    if (left == kNone || left-- > 0) return;
    if (--in_a_row > 0) left = 0;  // and the next one, too
    throw std::bad_alloc();
  }
};

}  // namespace tidemill

// Memory that a lane will read soon. A kernel that computes for longer than it reads may ask for it
// meanwhile, so that it is in a cache by then; where none does, nothing but time is lost.
// Plain data: files compiled for wider instruction sets include this.
#pragma once

#include <stdint.h>

namespace tidemill {

struct MemoryRun {
  int64_t begin;  // bytes from MemoryAhead::base on
  int64_t bytes;
};

// Runs that are wanted, in the order in which they will be read. Of one lane, whose kernels move on
// in it.
struct MemoryAhead {
  const unsigned char* base;
  const MemoryRun* next;  // the first one of which something is left
  const MemoryRun* end;
  int64_t asked;  // bytes of it
};

}  // namespace tidemill

// What ranks say to each other. With one rank every call is made, and does nothing: the reduction
// has its place in the forward pass from the start.
#pragma once

#include <cstdint>

#include "parallel/lane.h"

namespace tidemill {

class Communicator {
 public:
  int rank() const { return 0; }
  int num_ranks() const { return 1; }

  // values[0..count) becomes the sum over ranks, added in rank order. Collective: every lane of
  // every rank calls it. Values are visible to all lanes afterwards.
  void all_reduce_sum(Lane& lane, float* values, int64_t count);
};

}  // namespace tidemill

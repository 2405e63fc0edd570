#include "parallel/lane.h"

#include <algorithm>

namespace tidemill {

Range Lane::share(int64_t total, int64_t grain) const {
  const int64_t pieces = (total + grain - 1) / grain;
  const int64_t begin = pieces * index_ / count_ * grain;
  const int64_t end = pieces * (index_ + 1) / count_ * grain;
  return {.begin = std::min(begin, total), .end = std::min(end, total)};
}

}  // namespace tidemill

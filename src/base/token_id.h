// An index into a model's vocabulary. It stands here because folders that may not see each other
// (text, scheduler, sampling) must name the same number; base knows nothing else about it.
#pragma once

#include <cstdint>

namespace tidemill {

using TokenId = int32_t;

}  // namespace tidemill

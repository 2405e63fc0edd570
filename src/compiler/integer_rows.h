// The channels of a tensor that is packed as integers: taken over from the file where it holds such
// integers itself, else rounded.
#pragma once

#include <cstdint>

#include "compiler/round_weights.h"
#include "compiler/weight_map.h"

namespace tidemill {

// Channels [first, first + count) of a tensor whose target is integers. Padding is zero. Throws
// CheckpointError for numbers that are NaN or infinite, or that the format cannot hold.
RoundedRows integer_rows(const MappedTensor& tensor, int64_t first, int64_t count);

}  // namespace tidemill

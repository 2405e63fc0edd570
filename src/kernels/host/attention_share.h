// Which part of a step's attention a lane computes.
//
// A unit of work is one row and one kv head with all its query heads: their bits depend on nothing
// else, so that any split gives the same. Unit u is row u % rows.count of kv head u / rows.count:
// a lane stays with a head as long as it can, and finds its keys and values in the cache.
#pragma once

#include <stdint.h>

#include "kernels/kernels.h"
#include "parallel/lane.h"

namespace tidemill::host {

// The units of this lane. A row costs as many blocks as it attends: the last rows of a chunk see
// many times what the first do, and the sequences of a step have all lengths. Lanes get equal
// numbers of blocks, to within one unit.
Range share_attention(const Lane& lane, const TokenRows& rows, const AttentionShape& shape);

// The first position that a query at `position` attends.
int64_t first_attended(const AttentionShape& shape, int64_t position);

}  // namespace tidemill::host

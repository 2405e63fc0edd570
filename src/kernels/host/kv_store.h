// The writing of keys and values into their blocks, one head of one row at a time. Plain C++ for
// every variant, as host/driver_parts.h.
#pragma once

#include <stdint.h>

#include "kernels/kernels.h"

namespace tidemill::host {

enum class Distance : uint8_t { kFar, kNear };

// Asks for the lines that the row's keys and values will be written to (but for the scales of
// integers, a line for each run), so that the stores need not wait for memory: from far into L2,
// from near into L1 and to write. First the one, then the other, since a core that waits for as
// much as it can forgets a part of what else it is asked for. Nothing if there is no such row.
void fetch_slot(Distance distance, const AttentionShape& shape, const TokenRows& rows, int64_t row,
                KvLayer cache);

// Writes one key (value) of one kv head where the row's position says. The row that ends its
// sequence's part of the step also zeroes the slots behind it if the block was begun in this step:
// a recycled block may hold NaN, and NaN times a zero probability is NaN.
void store_key(const float* key, const AttentionShape& shape, const TokenRows& rows, int64_t row,
               int64_t kv_head, KvLayer cache);
void store_value(const float* value, const AttentionShape& shape, const TokenRows& rows,
                 int64_t row, int64_t kv_head, KvLayer cache);

// The same for a cache of bf16, rounded already.
void store_key(const uint16_t* key, const AttentionShape& shape, const TokenRows& rows, int64_t row,
               int64_t kv_head, KvLayer cache);
void store_value(const uint16_t* value, const AttentionShape& shape, const TokenRows& rows,
                 int64_t row, int64_t kv_head, KvLayer cache);

}  // namespace tidemill::host

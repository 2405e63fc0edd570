// Rotary embedding and the writing of keys and values into their blocks, one head of one row at a
// time. Plain C++ for every variant: a few hundred numbers per token and layer.
#pragma once

#include <stdint.h>

#include "kernels/buffer.h"
#include "kernels/kernels.h"

namespace tidemill::host {

// The largest row that rms_norm rounds to bf16: twice the widest hidden size that is accepted.
inline constexpr int64_t kMaxRowFloats = 65536;

// out = rotated (norm ? normalised : plain) source; head_dim floats. Half-rotate: j pairs with
// j + head_dim / 2 (RoFormer, Su et al. 2021).
void rotate_head(const float* source, const float* norm, const Rotary& rotary,
                 const AttentionShape& shape, int32_t position, float* out);

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

// 64-byte aligned and zeroed; pages are not touched until they are used.
Buffer allocate(size_t bytes);

}  // namespace tidemill::host

// Rotary embedding, one head of one row at a time. Plain C++ for every variant: a few hundred
// numbers per token and layer.
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

// 64-byte aligned and zeroed; pages are not touched until they are used.
Buffer allocate(size_t bytes);

}  // namespace tidemill::host

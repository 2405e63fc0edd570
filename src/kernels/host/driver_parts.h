// What the drivers need beside a variant's inner loops: the norm of a head, memory.
#pragma once

#include <stdint.h>

#include "kernels/buffer.h"
#include "kernels/kernels.h"

namespace tidemill::host {

// The largest row that rms_norm rounds to bf16: twice the widest hidden size that is accepted.
inline constexpr int64_t kMaxRowFloats = 65536;

// out[d] = in[d] * norm[d] / sqrt(mean of squares + epsilon), d < dim: the norm that some networks
// have on each head of queries and keys. Plain C++ for every variant.
void norm_head(const float* in, const float* norm, float epsilon, int64_t dim, float* out);

// 64-byte aligned and zeroed; pages are not touched until they are used.
Buffer allocate(size_t bytes);
void touch(void* data, size_t bytes);

}  // namespace tidemill::host

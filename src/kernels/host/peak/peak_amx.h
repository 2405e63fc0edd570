// The arithmetic probe of the tile instructions. Declarations only, as inner.h explains.
#pragma once

#include <stdint.h>

namespace tidemill::amx {

// As Inner has them. They set the calling thread's tiles, and release them.
int64_t multiply_bf16(int64_t rounds);
int64_t multiply_bytes(int64_t rounds);

}  // namespace tidemill::amx

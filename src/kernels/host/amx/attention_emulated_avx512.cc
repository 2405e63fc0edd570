// The same on plain tiles, for machines without AMX; AVX-512 is as it is.
#include "kernels/host/amx/attention_loop.h"
#include "kernels/host/amx/plain_tiles.h"
#include "kernels/host/amx/products.h"

namespace tidemill::amx_emulated {

void attend_bf16_with_avx512(const AttentionTask& task) { attend_on_tiles<PlainTiles>(task); }

}  // namespace tidemill::amx_emulated

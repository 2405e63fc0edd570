// Attention over a bf16 cache with the tile instructions.
#include "kernels/host/amx/attention_loop.h"
#include "kernels/host/amx/products.h"
#include "kernels/host/amx/tiles.h"

namespace tidemill::amx {

void attend_bf16(const AttentionTask& task) { attend_on_tiles<InstructionTiles>(task); }

}  // namespace tidemill::amx

// Attention with the tile instructions.
#include "kernels/host/amx/attention_loop.h"
#include "kernels/host/amx/integer_attention.h"
#include "kernels/host/amx/products.h"
#include "kernels/host/amx/tiles.h"
#include "kernels/host/int8_cache/byte_rows_avx512vnni.h"

namespace tidemill::amx {

void attend_bf16(const AttentionTask& task) { attend_on_tiles<InstructionTiles>(task); }

void attend_int8(const AttentionTask& task) {
  if (task.head_dim % kDimsPerTile != 0) return avx512vnni::attend_int8(task);
  attend_integers_on_tiles<ByteRows, InstructionTiles>(task);
}

}  // namespace tidemill::amx

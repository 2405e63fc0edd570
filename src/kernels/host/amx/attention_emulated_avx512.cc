// The same on plain tiles, for machines without AMX; AVX-512 is as it is.
#include "kernels/host/amx/attention_loop.h"
#include "kernels/host/amx/integer_attention.h"
#include "kernels/host/amx/plain_tiles.h"
#include "kernels/host/amx/products.h"
#include "kernels/host/int8_cache/vector_avx512.h"
#include "kernels/host/int8_cache/widened_rows.h"

namespace tidemill::amx_emulated {

void attend_bf16_with_avx512(const AttentionTask& task) { attend_on_tiles<PlainTiles>(task); }

void attend_int8_with_avx512(const AttentionTask& task) {
  if (task.head_dim % kDimsPerTile != 0) return avx512::attend_int8(task);
  attend_integers_on_tiles<WidenedRows<IntegerVector512<WordsMadd>>, PlainTiles>(task);
}

}  // namespace tidemill::amx_emulated

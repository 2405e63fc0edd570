// Attention over int8 with AVX-512 and without VNNI: VPMADDWD and an addition.
#include "kernels/host/attention_avx512_ops.h"
#include "kernels/host/int8_cache/attention_loop.h"
#include "kernels/host/int8_cache/vector_avx512.h"
#include "kernels/host/int8_cache/widened_rows.h"

namespace tidemill::avx512 {

void attend_int8(const AttentionTask& task) {
  attend_integers<WidenedRows<IntegerVector512<WordsMadd>>, SoftmaxOps512>(task);
}

}  // namespace tidemill::avx512

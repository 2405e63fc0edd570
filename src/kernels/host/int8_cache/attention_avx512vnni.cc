// Attention over int8 with VNNI.
#include "kernels/host/attention_avx512_ops.h"
#include "kernels/host/int8_cache/attention_loop.h"
#include "kernels/host/int8_cache/byte_rows_avx512vnni.h"

namespace tidemill::avx512vnni {

void attend_int8(const AttentionTask& task) { attend_integers<ByteRows, SoftmaxOps512>(task); }

}  // namespace tidemill::avx512vnni

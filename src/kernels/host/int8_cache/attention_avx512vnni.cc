// Attention over int8 with VPDPWSSD.
#include "kernels/host/attention_avx512_ops.h"
#include "kernels/host/int8_cache/attention_loop.h"
#include "kernels/host/int8_cache/vector_avx512.h"

namespace tidemill::avx512vnni {
namespace {

struct Dot {
  static __m512i dot(__m512i sum, __m512i a, __m512i b) { return _mm512_dpwssd_epi32(sum, a, b); }
};

}  // namespace

void attend_int8(const AttentionTask& task) {
  attend_integers<IntegerVector512<Dot>, SoftmaxOps512>(task);
}

}  // namespace tidemill::avx512vnni

// Attention over int8 with AVX-512 and without VNNI: VPMADDWD and an addition.
#include "kernels/host/attention_avx512_ops.h"
#include "kernels/host/int8_cache/attention_loop.h"
#include "kernels/host/int8_cache/vector_avx512.h"
#include "kernels/host/int8_cache/widened_rows.h"

namespace tidemill::avx512 {
namespace {

struct Dot {
  static __m512i dot(__m512i sum, __m512i a, __m512i b) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
  }
};

}  // namespace

void attend_int8(const AttentionTask& task) {
  attend_integers<WidenedRows<IntegerVector512<Dot>>, SoftmaxOps512>(task);
}

}  // namespace tidemill::avx512

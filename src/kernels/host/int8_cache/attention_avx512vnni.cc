// Attention over int8 with VPDPWSSD.
#include "kernels/host/attention_avx512_ops.h"
#include "kernels/host/int8_cache/attention_loop.h"
#include "kernels/host/int8_cache/vector_avx512.h"

namespace tidemill::avx512vnni {
namespace {

struct Dot {
  // Around the intrinsic GCC 12 copies every sum, some through memory.
  static __m512i dot(__m512i sum, __m512i a, __m512i b) {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
  }
};

}  // namespace

void attend_int8(const AttentionTask& task) {
  attend_integers<IntegerVector512<Dot>, SoftmaxOps512>(task);
}

}  // namespace tidemill::avx512vnni

#include "kernels/kv_layout.h"

namespace tidemill {
namespace {

size_t padded(int64_t value, int64_t multiple) {
  return static_cast<size_t>((value + multiple - 1) / multiple * multiple);
}

}  // namespace

size_t k_run_bytes(DType type, int64_t head_dim) {
  return type == DType::kF32 ? static_cast<size_t>(head_dim * kTokensPerBlock) * 4
                             : padded(head_dim, 2) * kTokensPerBlock * 2;
}

size_t v_run_bytes(DType type, int64_t head_dim) {
  return padded(head_dim, 16) * kTokensPerBlock * (type == DType::kF32 ? 4 : 2);
}

size_t kv_block_bytes(DType type, int64_t num_kv_heads, int64_t head_dim) {
  return static_cast<size_t>(num_kv_heads) *
         (k_run_bytes(type, head_dim) + v_run_bytes(type, head_dim));
}

}  // namespace tidemill

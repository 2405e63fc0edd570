#include "kernels/kv_layout.h"

#include "kernels/element_bytes.h"

namespace tidemill {
namespace {

int64_t padded(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

size_t run_bytes(DType type, int64_t dims) {
  return static_cast<size_t>(dims * kTokensPerBlock * element_bytes(type));
}

}  // namespace

size_t k_run_bytes(DType type, int64_t head_dim) {
  return run_bytes(type, type == DType::kF32 ? head_dim : padded(head_dim, 2));
}

size_t v_run_bytes(DType type, int64_t head_dim) { return run_bytes(type, padded(head_dim, 16)); }

size_t kv_block_bytes(DType type, int64_t num_kv_heads, int64_t head_dim) {
  return static_cast<size_t>(num_kv_heads) *
         (k_run_bytes(type, head_dim) + v_run_bytes(type, head_dim));
}

}  // namespace tidemill

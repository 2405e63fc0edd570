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

// A line of 32 bf16; of int8 alone.
size_t scales_bytes(DType type) { return type == DType::kInt8 ? 2 * kTokensPerBlock : 0; }

size_t k_numbers_bytes(DType type, int64_t head_dim) {
  return run_bytes(type, padded(head_dim, 4 / element_bytes(type)));
}

size_t v_numbers_bytes(DType type, int64_t head_dim) {
  return run_bytes(type, padded(head_dim, 16));
}

}  // namespace

size_t k_run_bytes(DType type, int64_t head_dim) {
  return k_numbers_bytes(type, head_dim) + scales_bytes(type);
}

size_t v_run_bytes(DType type, int64_t head_dim) {
  return v_numbers_bytes(type, head_dim) + scales_bytes(type);
}

size_t k_scales_offset(int64_t head_dim) { return k_numbers_bytes(DType::kInt8, head_dim); }
size_t v_scales_offset(int64_t head_dim) { return v_numbers_bytes(DType::kInt8, head_dim); }

size_t kv_block_bytes(DType type, int64_t num_kv_heads, int64_t head_dim) {
  return static_cast<size_t>(num_kv_heads) *
         (k_run_bytes(type, head_dim) + v_run_bytes(type, head_dim));
}

KvLayer kv_layer(void* data, DType type, int64_t num_kv_heads, int64_t head_dim) {
  return {.data = static_cast<unsigned char*>(data),
          .block_stride = kv_block_bytes(type, 1, head_dim),
          .bundle_stride = kBundleBlocks * kv_block_bytes(type, num_kv_heads, head_dim),
          .type = type};
}

unsigned char* kv_block(const KvLayer& layer, int64_t block, int64_t kv_head) {
  const auto id = static_cast<size_t>(block);
  return layer.data + id / kBundleBlocks * layer.bundle_stride +
         (static_cast<size_t>(kv_head) * kBundleBlocks + id % kBundleBlocks) * layer.block_stride;
}

size_t kv_layer_bytes(DType type, int64_t num_kv_heads, int64_t head_dim, int64_t num_blocks) {
  return static_cast<size_t>(padded(num_blocks, kBundleBlocks)) *
         kv_block_bytes(type, num_kv_heads, head_dim);
}

}  // namespace tidemill

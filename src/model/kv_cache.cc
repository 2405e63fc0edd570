#include "model/kv_cache.h"

#include "base/check.h"

namespace tidemill {

int64_t kv_bytes_per_block(const Architecture& architecture, DType type) {
  return architecture.num_layers * static_cast<int64_t>(kv_block_bytes(
                                       type, architecture.num_kv_heads, architecture.head_dim));
}

// Layer by layer, then block by block: the blocks of one layer, which one attention call reads,
// stand together.
KvCache::KvCache(const Kernels& kernels, const Architecture& architecture, DType type,
                 int64_t num_blocks)
    : memory_(kernels.allocate(
          static_cast<size_t>(kv_bytes_per_block(architecture, type) * num_blocks))),
      type_(type),
      num_blocks_(num_blocks),
      block_bytes_(kv_bytes_per_block(architecture, type) / architecture.num_layers) {
  layer_bytes_ = block_bytes_ * num_blocks;
}

KvLayer KvCache::layer(int64_t index) const {
  const int64_t offset = index * layer_bytes_;
  CHECK(index >= 0 && offset + layer_bytes_ <= static_cast<int64_t>(memory_.bytes()),
        "layer {} of a KV cache of {} bytes, {} per layer", index, memory_.bytes(), layer_bytes_);
  return {.data = static_cast<unsigned char*>(memory_.data()) + offset,
          .block_stride = static_cast<size_t>(block_bytes_),
          .type = type_};
}

}  // namespace tidemill

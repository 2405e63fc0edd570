// The memory that holds keys and values: num_blocks blocks of 32 tokens for every layer, allocated
// by the variant. Which sequence uses which block is the scheduler's business.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"
#include "model/architecture.h"

namespace tidemill {

// Bytes that one block takes over all layers.
int64_t kv_bytes_per_block(const Architecture& architecture, DType type);

class KvCache {
 public:
  KvCache(const Kernels& kernels, const Architecture& architecture, DType type, int64_t num_blocks);

  KvLayer layer(int64_t index) const;
  int64_t num_blocks() const { return num_blocks_; }
  DType type() const { return type_; }

 private:
  Buffer memory_;
  DType type_;
  int64_t num_blocks_;
  int64_t layer_bytes_;
  int64_t layer_stride_;  // from layer to layer, bytes
  int64_t block_bytes_;
};

}  // namespace tidemill

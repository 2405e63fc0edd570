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
  // Has the system give memory to the bundles of the first `used` blocks and to some behind them,
  // so that no step waits for its zeros: about one huge page at a call, or a bundle if that is
  // more, which takes up to some ms. False: kBytesAhead behind them have theirs. Not while a step
  // runs.
  bool touch_ahead(int64_t used);
  int64_t num_blocks() const { return num_blocks_; }
  DType type() const { return type_; }

 private:
  static constexpr int64_t kBytesAhead = int64_t{512} << 20;  // of all layers together

  const Kernels& kernels_;
  Buffer memory_;
  DType type_;
  int64_t num_layers_;
  int64_t num_kv_heads_;
  int64_t head_dim_;
  int64_t num_blocks_;
  int64_t layer_bytes_;
  int64_t layer_stride_;         // from layer to layer, bytes
  int64_t touched_bundles_ = 0;  // the first ones, in every layer
  int64_t touched_layers_ = 0;   // the first ones, of the bundles that come next
};

}  // namespace tidemill

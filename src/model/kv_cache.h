// The memory that holds keys and values: num_blocks blocks of 32 tokens for every layer, allocated
// by the variant. Which sequence uses which block is the scheduler's business.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"
#include "model/architecture.h"
#include "parallel/worker_pool.h"

namespace tidemill {

// Bytes that one block takes over all layers.
int64_t kv_bytes_per_block(const Architecture& architecture, DType type);

class KvCache {
 public:
  KvCache(const Kernels& kernels, const Architecture& architecture, DType type, int64_t num_blocks);

  KvLayer layer(int64_t index) const;
  // Has the system give memory to the bundles of the first `used` blocks and to `bytes_ahead` of
  // all layers together behind them, so that no step waits for its zeros. At a call each worker
  // takes about one huge page, or a bundle if that is more, for which a host that has to find it
  // first makes it wait for some ms. False: all that has its memory. Not while a step runs.
  bool touch_ahead(WorkerPool& workers, int64_t used, int64_t bytes_ahead);
  int64_t num_blocks() const { return num_blocks_; }
  DType type() const { return type_; }

 private:
  // Pieces that touch_ahead() takes, the layers of some bundles before those of the next ones.
  int64_t bundles_of_piece() const;
  int64_t num_pieces(int64_t num_bundles) const;
  void touch_piece(int64_t piece);

  const Kernels& kernels_;
  Buffer memory_;
  DType type_;
  int64_t num_layers_;
  int64_t num_kv_heads_;
  int64_t head_dim_;
  int64_t num_blocks_;
  int64_t layer_bytes_;
  int64_t layer_stride_;        // from layer to layer, bytes
  int64_t bundle_bytes_ = 0;    // of one layer
  int64_t touched_pieces_ = 0;  // the first ones
};

}  // namespace tidemill

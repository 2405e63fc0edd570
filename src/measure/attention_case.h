// One query for each of several sequences over their keys and values, layer after layer, blocks in
// the order of a pool that has been used for long: shuffled.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "measure/kernel_inputs.h"
#include "model/load.h"

namespace tidemill {

class AttentionCase {
 public:
  // Fills `arena` with as many layers as fit; layer_bytes() is what one takes, and one has to.
  AttentionCase(const Kernels& kernels, const Model& model, int64_t sequences, int64_t context,
                Buffer& arena, std::mt19937_64& random);
  static int64_t layer_bytes(const Model& model, int64_t sequences, int64_t context);

  // Its other kernels, `calls` times in one section: what decides who attends to what, and what
  // writes a row's keys and values (layer after layer, as above).
  void plan(const Kernels& kernels, WorkerPool& workers, int64_t calls);
  void rotate_and_store(const Kernels& kernels, WorkerPool& workers, int64_t calls);
  // Attention of the next `calls` layers, in one section. Starts over behind the last.
  void run(const Kernels& kernels, WorkerPool& workers, int64_t calls);

  // Of one layer.
  double bytes() const { return bytes_; }
  double operations() const { return operations_; }

 private:
  TokenRows rows() const;
  AttentionMemory memory();
  const KvLayer& layer(int64_t call) const;
  void pass(int64_t calls);

  AttentionShape shape_;
  OwnedRows qkv_, q_, out_;
  std::vector<float> cos_, sin_;  // of angles that matter to nobody
  const float* q_norm_;           // the first layer's
  const float* k_norm_;
  float norm_epsilon_;
  std::vector<int32_t> positions_, table_begins_, block_ids_;
  std::vector<KvLayer> layers_;
  Buffer memory_;  // of the plan
  size_t next_ = 0;
  double bytes_ = 0.0;
  double operations_ = 0.0;
};

}  // namespace tidemill

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
  // Fills `arena` with as many layers as fit; see fits().
  AttentionCase(const Kernels& kernels, const Model& model, int64_t sequences, int64_t context,
                Buffer& arena, std::mt19937_64& random);
  static bool fits(const Model& model, int64_t sequences, int64_t context, const Buffer& arena);

  // Attention of the next `calls` layers, in one section. Starts over behind the last.
  void run(const Kernels& kernels, WorkerPool& workers, int64_t calls);

  // Of one layer.
  double bytes() const { return bytes_; }
  double operations() const { return operations_; }

 private:
  AttentionShape shape_;
  OwnedRows q_, out_;
  std::vector<int32_t> positions_, table_begins_, block_ids_;
  std::vector<KvLayer> layers_;
  Buffer memory_;  // of the plan
  size_t next_ = 0;
  double bytes_ = 0.0;
  double operations_ = 0.0;
};

}  // namespace tidemill

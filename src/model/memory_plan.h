// How much memory a model takes here, and how many KV blocks fit: the table that `inspect` prints
// and that a refusal shows.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/tensor.h"
#include "model/architecture.h"
#include "model/decoder.h"

namespace tidemill {

// What a model takes that runs beside another one and shares its block numbers: a draft model.
struct CompanionMemory {
  int64_t weight_bytes = 0;
  int64_t workspace_bytes = 0;
  int64_t bytes_per_block = 0;
};

struct MemoryWishes {
  int64_t kv_cache_bytes = 0;  // 0: 0.9 of what is left
  int64_t max_sequences = 0;
  DecoderLimits limits;
  CompanionMemory companion = {};  // counted with the model's own everywhere
};

struct MemoryPlan {
  MemoryWishes wishes;
  DType cache = DType::kBf16;   // what keys and values are
  int64_t available_bytes = 0;  // what cgroup and machine leave to this process
  int64_t weight_bytes = 0;
  int64_t workspace_bytes = 0;
  int64_t bytes_per_block = 0;  // 32 tokens, all layers
  int64_t longest_blocks = 0;   // one sequence of max_model_len
  int64_t num_blocks = 0;       // whole bundles, or what can be used if that is less
  bool fits_as_int8 = false;  // keys and values are not int8, and everything would fit if they were

  int64_t kv_bytes() const { return bytes_of(num_blocks); }
  std::string table() const;
  // Why this does not fit, with the table and the way out; empty when it does.
  std::string refusal() const;

 private:
  int64_t bytes_of(int64_t blocks) const;
};

MemoryPlan plan_memory(const Architecture& architecture, const ComputeTypes& types,
                       int64_t weight_bytes, const MemoryWishes& wishes, int64_t available_bytes);

}  // namespace tidemill

// A compiled model in memory: the engine directory mapped read-only, checked, and bound to layers.
// Immutable; shared by reference among whoever computes with it.
#pragma once

#include <filesystem>
#include <vector>

#include "base/mapped_file.h"
#include "kernels/kernels.h"
#include "model/architecture.h"
#include "model/engine_dir.h"

namespace tidemill {

struct LayerWeights {
  const float* attention_norm = nullptr;  // [hidden]
  PackedWeight qkv;                       // q | k | v
  const float* qkv_bias = nullptr;
  const float* q_norm = nullptr;  // [head_dim]
  const float* k_norm = nullptr;
  PackedWeight output;
  const float* output_bias = nullptr;
  const float* mlp_norm = nullptr;      // [hidden]
  PackedWeight gate_up;                 // panels alternate
  const float* gate_up_bias = nullptr;  // in the order of the channels of gate_up
  PackedWeight down;
  const float* down_bias = nullptr;
};

class Model {
 public:
  // Throws std::runtime_error when the directory is not a complete engine of this version; every
  // tensor's shape is checked against the architecture. The bytes of the weights are taken as they
  // are: compiler/check_engine.h looks at them.
  explicit Model(const std::filesystem::path& engine_dir, const ModelOptions& options = {});

  const Manifest& manifest() const { return manifest_; }
  const Architecture& architecture() const { return manifest_.architecture; }
  ComputeTypes compute_types() const { return compute_types_; }

  const PackedWeight& embedding() const { return embedding_; }
  const PackedWeight& head() const { return head_; }
  const float* final_norm() const { return final_norm_; }
  const std::vector<LayerWeights>& layers() const { return layers_; }
  // Weights could not be read since: what was computed with them is wrong. Any thread.
  bool has_failed() const { return file_.has_failed(); }
  int64_t weight_bytes() const { return static_cast<int64_t>(file_.bytes().size()); }

 private:
  Manifest manifest_;
  MappedFile file_;
  ComputeTypes compute_types_;
  PackedWeight embedding_;
  PackedWeight head_;
  const float* final_norm_ = nullptr;
  std::vector<LayerWeights> layers_;
};

}  // namespace tidemill

// A compiled model in memory: the engine directory mapped read-only, or its weights copied into
// memory of huge pages, checked, and bound to layers.
// Immutable but for copy_weights(); shared by reference among whoever computes with it.
#pragma once

#include <filesystem>
#include <span>
#include <vector>

#include "base/mapped_file.h"
#include "kernels/kernels.h"
#include "model/architecture.h"
#include "model/engine_dir.h"
#include "parallel/worker_pool.h"

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

  // Copies the weights from the file, which is not mapped any more afterwards, into memory that
  // `kernels` allocates: each worker the shares that it will read. Pages of 4 KiB cost a step with
  // some rows a tenth of its time. Not while somebody computes or holds a weight. Throws
  // std::bad_alloc, and std::runtime_error when the file cannot be read; the model is as before.
  void copy_weights(const Kernels& kernels, WorkerPool& workers);

  const Manifest& manifest() const { return manifest_; }
  const Architecture& architecture() const { return manifest_.architecture; }
  ComputeTypes compute_types() const { return compute_types_; }

  const PackedWeight& embedding() const { return embedding_; }
  const PackedWeight& head() const { return head_; }
  const float* final_norm() const { return final_norm_; }
  const std::vector<LayerWeights>& layers() const { return layers_; }
  // Weights could not be read since: what was computed with them is wrong. Any thread.
  bool has_failed() const { return file_.has_failed(); }
  int64_t weight_bytes() const { return weights_file_bytes(manifest_.tensors); }

 private:
  void bind(std::span<const std::byte> weights);

  Manifest manifest_;
  ModelOptions options_;
  MappedFile file_;
  Buffer copy_;  // of the file, once there is one
  ComputeTypes compute_types_;
  PackedWeight embedding_;
  PackedWeight head_;
  const float* final_norm_ = nullptr;
  std::vector<LayerWeights> layers_;
};

}  // namespace tidemill

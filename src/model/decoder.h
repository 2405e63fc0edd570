// One step of the network: tokens in, logits out. Walks one list of menu calls, the same for every
// variant and every family. All lanes of a parallel section call forward() with the same input.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "model/forward_input.h"
#include "model/kv_cache.h"
#include "model/load.h"
#include "parallel/communicator.h"
#include "parallel/lane.h"

namespace tidemill {

struct DecoderLimits {
  int64_t max_model_len = 0;    // positions that the rotary tables cover
  int64_t max_step_tokens = 0;  // most tokens in one step: sizes the workspace
  int64_t max_score_rows = 0;   // most rows of logits in one step
};

class Decoder {
 public:
  // `model`, `cache` and `communicator` outlive this. Allocates the workspace once; forward()
  // allocates nothing.
  Decoder(const Kernels& kernels, const Model& model, KvCache& cache, Communicator& communicator,
          const DecoderLimits& limits);

  // Writes the keys and values of the step's tokens into the cache, and the logits of
  // input.score_rows (f32 [score rows, vocab_size]) where logits() says. Called by every lane.
  void forward(Lane& lane, const ForwardInput& input);

  // Valid after forward() until the next one. Ids from vocab_size on are not in it.
  Tensor logits() const { return logits_; }

  static int64_t workspace_bytes(const Architecture& architecture, DType activation_type,
                                 const DecoderLimits& limits);

 private:
  void attention_block(Lane& lane, const ForwardInput& input, int64_t layer, int64_t rows);
  void mlp_block(Lane& lane, int64_t layer, int64_t rows);
  // Every product of the network: bias, and the reduction over ranks, have their place here.
  void product(Lane& lane, Tensor in, const PackedWeight& weight, const Epilogue& epilogue,
               Tensor out);

  const Kernels& kernels_;
  const Model& model_;
  KvCache& cache_;
  Communicator& communicator_;
  DecoderLimits limits_;
  std::vector<float> cos_;  // [max_model_len, head_dim / 2]
  std::vector<float> sin_;
  Buffer workspace_;
  Tensor hidden_, normed_, qkv_, q_, attended_, gated_, final_, logits_;
};

}  // namespace tidemill

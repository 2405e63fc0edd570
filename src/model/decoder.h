// One step of the network: tokens in, logits out. Walks one list of menu calls, the same for every
// variant and every family. All lanes of a parallel section call forward() with the same input.
#pragma once

#include <cstdint>

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

  // For every lane, valid after its forward() until the section ends, and for the caller of the
  // section until the next one. Ids from vocab_size on are not in it.
  Tensor logits() const;
  // One of its rows, for who chooses a token from it.
  Logits logits_of(int64_t row) const;

  static int64_t workspace_bytes(const Architecture& architecture, const ComputeTypes& types,
                                 const DecoderLimits& limits);

 private:
  // Views of the workspace at their largest; a step uses their first rows.
  struct Workspace {
    Tensor hidden;                    // f32 [tokens, hidden]: the residual stream
    Tensor normed;                    // [tokens, hidden]
    Tensor qkv;                       // f32 [tokens, q | k | v]
    Tensor q;                         // [tokens, heads * head_dim]
    Tensor attended;                  // [tokens, heads * head_dim]
    Tensor gated;                     // [tokens, intermediate, padded to whole panels]
    Tensor scored;                    // [score rows, hidden]
    Tensor quantized;                 // the input of the integer product at hand, in its form
    int64_t quantized_row_bytes = 0;  // at most, of a row of a layer's
    Tensor logits;                    // f32 [score rows, vocab_size]
    Tensor chunk_maxima;              // of those: f32 [score rows, chunks]
    AttentionMemory attention;
    float* cos = nullptr;  // [max_model_len, head_dim / 2]
    float* sin = nullptr;
    int64_t bytes = 0;
  };
  static Workspace lay_out(void* memory, const Architecture& architecture,
                           const ComputeTypes& types, const DecoderLimits& limits);
  void fill_rotary_tables();

  // Rows of the step that go from product to product together. What only one product after
  // another needs stands in the workspace from row `scratch` on.
  struct Strip {
    Range rows;
    int64_t scratch = 0;
  };
  // Strips read a layer's weights again and again: they have to stay in the shared cache.
  static constexpr int64_t kMaxLayerBytes = int64_t{12} << 20;

  int64_t scratch_rows(int64_t num_rows, int64_t num_lanes) const;
  bool goes_by_strips(const Lane& lane, int64_t num_rows) const;
  int64_t rows_of_strips(int64_t num_rows, int64_t wanted) const;
  void layers_together(Lane& lane, const TokenRows& rows);
  void layers_by_strips(Lane& lane, const TokenRows& rows);
  // All layers: `of_strip` is who makes a strip's products, for_each_strip calls what it is given
  // with every Strip of the step.
  template <typename ForEachStrip>
  void walk_layers(Lane& lane, Lane& of_strip, const TokenRows& rows,
                   const ForEachStrip& for_each_strip);

  void project_in(Lane& lane, const LayerWeights& weights, const Strip& strip);
  void attend(Lane& lane, const LayerWeights& weights, const TokenRows& rows, KvLayer cache);
  void project_out(Lane& lane, const LayerWeights& weights, const Strip& strip);
  void feed_forward(Lane& lane, const LayerWeights& weights, const Strip& strip);

  static Tensor scratch_of(Tensor tensor, const Strip& strip);
  // `floats` as the product with `weight` wants it: itself, or the integers for it, not yet
  // written, where those of row `first_row` have their place.
  Tensor input_of(const PackedWeight& weight, Tensor floats, int64_t first_row) const;
  // Where what `weight` is multiplied with is first written: in its own type, or f32 to be rounded.
  Tensor before_rounding(const PackedWeight& weight, Tensor space) const;
  // What was written there as the product wants it.
  Tensor rounded(Lane& lane, const PackedWeight& weight, Tensor floats, int64_t first_row);
  // Every product of the network: bias, and the reduction over ranks, have their place here.
  enum class Reduction { kNone, kSumOverRanks };
  void product(Lane& lane, Tensor in, const PackedWeight& weight, Epilogue epilogue, Tensor out,
               Reduction reduction = Reduction::kNone);

  const Kernels& kernels_;
  const Model& model_;
  KvCache& cache_;
  Communicator& communicator_;
  const DecoderLimits limits_;
  const AttentionShape attention_shape_;
  const int64_t layer_bytes_;
  Buffer memory_;
  Workspace workspace_;
  int64_t num_scored_rows_ = 0;  // of the step; lane 0 writes, the first meeting publishes
};

}  // namespace tidemill

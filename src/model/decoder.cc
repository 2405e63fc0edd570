#include "model/decoder.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "base/check.h"
#include "base/round_up.h"
#include "kernels/element_bytes.h"
#include "kernels/quantized_rows.h"
#include "model/kv_ahead.h"

namespace tidemill {
namespace {

constexpr int64_t kAlignment = 64;  // bytes: rows of tensors begin on cache lines (tensor.h)

// Rows of a step whose products have time to ask for what attention reads next. Fewer wait for
// memory themselves; of more, most are prompts', whose attention computes for longer than it reads.
constexpr int64_t kLeastRowsAhead = 8;
constexpr int64_t kMostRowsAhead = 256;

int64_t aligned(int64_t bytes) { return round_up(bytes, kAlignment); }

// From row to row. Rows that lie a power of two apart meet in a few sets of the first cache.
int64_t stride_bytes(int64_t row_bytes) {
  constexpr int64_t kFewSets = 1024;
  const int64_t bytes = aligned(row_bytes);
  return bytes % kFewSets == 0 ? bytes + kAlignment : bytes;
}

// Cuts views from one piece of memory; without memory it only counts.
class Cutter {
 public:
  explicit Cutter(void* memory) : memory_(static_cast<unsigned char*>(memory)) {}

  Tensor tensor(int64_t rows, int64_t cols, DType type) {
    const int64_t stride = stride_bytes(cols * element_bytes(type));
    return {.data = take(rows * stride),
            .rows = rows,
            .cols = cols,
            .stride = stride / element_bytes(type),
            .type = type};
  }
  float* floats(int64_t count) {
    return static_cast<float*>(take(count * element_bytes(DType::kF32)));
  }
  AttentionMemory attention_memory(int64_t bytes) { return {take(bytes), bytes}; }
  int64_t bytes() const { return bytes_; }

 private:
  void* take(int64_t bytes) {
    void* begin = memory_ == nullptr ? nullptr : memory_ + bytes_;
    bytes_ += aligned(bytes);
    return begin;
  }
  unsigned char* memory_;
  int64_t bytes_ = 0;
};

Tensor first_rows(Tensor tensor, int64_t rows) {
  tensor.rows = rows;
  return tensor;
}

Tensor rows_of(Tensor tensor, Range rows) {
  tensor.data = static_cast<unsigned char*>(tensor.data) +
                rows.begin * tensor.stride * element_bytes(tensor.type);
  tensor.rows = rows.size();
  return tensor;
}

// The same rows of memory as another type; no wider than the one it was cut for.
Tensor retyped(Tensor tensor, DType type) {
  tensor.stride = tensor.stride * element_bytes(tensor.type) / element_bytes(type);
  tensor.type = type;
  return tensor;
}

// Most bytes that the integers of a row take as input of a layer's product.
int64_t quantized_row_bytes(const Architecture& a, int32_t parts) {
  constexpr QuantizedForm kOfLayer{.group = 32};
  const int64_t most =
      std::max({a.hidden_size, a.num_heads * a.head_dim, padded_intermediate_size(a)});
  return parts * quantized_run_bytes(kOfLayer, most);
}

// Most bytes that a step's integers take: of every row the input of a layer's product, or of the
// score rows that of the head, in two parts.
int64_t quantized_bytes(const Architecture& a, int32_t parts, const DecoderLimits& limits) {
  if (parts == 0) return 0;
  constexpr QuantizedForm kOfHead{.group = 32, .parts = 2};
  return std::max(
      limits.max_step_tokens * quantized_row_bytes(a, parts),
      limits.max_score_rows * kOfHead.parts * quantized_run_bytes(kOfHead, a.hidden_size));
}

// Bytes of the largest layer's weights.
int64_t largest_layer_bytes(const Model& model) {
  int64_t largest = 0;
  for (const LayerWeights& layer : model.layers()) {
    int64_t bytes = 0;
    for (const PackedWeight* weight : {&layer.qkv, &layer.output, &layer.gate_up, &layer.down}) {
      bytes += static_cast<int64_t>(packed_bytes(weight->format, weight->n, weight->k));
    }
    largest = std::max(largest, bytes);
  }
  return largest;
}

TokenRows token_rows(const ForwardInput& input) {
  const ForwardInput::Group& group = input.groups[0];
  return {.count = static_cast<int64_t>(input.token_ids.size()),
          .positions = input.positions.data(),
          .table_begins = group.table_begins.data(),
          .block_ids = group.block_ids.data()};
}

// What only a bug can get wrong, but would read or write where it must not.
void check_input(const ForwardInput& input, const DecoderLimits& limits) {
  const size_t rows = input.token_ids.size();
  CHECK(input.groups.size() == 1, "{} KV groups; this network has one", input.groups.size());
  CHECK(input.positions.size() == rows && input.groups[0].table_begins.size() == rows,
        "{} tokens with {} positions and {} tables", rows, input.positions.size(),
        input.groups[0].table_begins.size());
  CHECK(static_cast<int64_t>(rows) <= limits.max_step_tokens, "{} tokens in a step of at most {}",
        rows, limits.max_step_tokens);
  CHECK(static_cast<int64_t>(input.score_rows.size()) <= limits.max_score_rows,
        "{} score rows in a step of at most {}", input.score_rows.size(), limits.max_score_rows);
  for (const int32_t row : input.score_rows) {
    CHECK(row >= 0 && static_cast<size_t>(row) < rows, "score row {} of {}", row, rows);
  }
}

void check_rows(const ForwardInput& input, int64_t vocab_size, int64_t max_model_len) {
  const ForwardInput::Group& group = input.groups[0];
  for (size_t row = 0; row < input.token_ids.size(); ++row) {
    const TokenId id = input.token_ids[row];
    CHECK(id >= 0 && id < vocab_size, "token id {} of {}", id, vocab_size);
    const int64_t position = input.positions[row];
    CHECK(position >= 0 && position < max_model_len, "position {} of {}", position, max_model_len);
    const int64_t entry = group.table_begins[row] + position / kTokensPerBlock;
    CHECK(entry >= 0 && entry < static_cast<int64_t>(group.block_ids.size()),
          "entry {} of {} in the block tables", entry, group.block_ids.size());
  }
}

// Every block that a row attends to is there; where the window has passed a table says -1.
void check_blocks(const ForwardInput& input, const AttentionShape& shape, int64_t num_blocks) {
  const ForwardInput::Group& group = input.groups[0];
  for (const int32_t block : group.block_ids) {
    CHECK(block >= -1 && block < num_blocks, "block {} of {}", block, num_blocks);
  }
  for (size_t row = 0; row < input.token_ids.size(); ++row) {
    const int64_t begin = group.table_begins[row];
    const int64_t position = input.positions[row];
    // Behind a row of the same sequence only what that one has not attended to.
    const bool follows = row > 0 && group.table_begins[row - 1] == begin;
    const int64_t first = follows ? input.positions[row - 1] : first_attended(shape, position);
    for (int64_t i = first / kTokensPerBlock; i <= position / kTokensPerBlock; ++i) {
      CHECK(group.block_ids[static_cast<size_t>(begin + i)] >= 0,
            "position {} attends to block {} of its table, which is empty", position, i);
    }
  }
}

AttentionShape attention_shape(const Architecture& architecture) {
  return {.num_heads = architecture.num_heads,
          .num_kv_heads = architecture.num_kv_heads,
          .head_dim = architecture.head_dim,
          .scale = 1.0f / std::sqrt(static_cast<float>(architecture.head_dim)),
          .window = architecture.sliding_window};
}

}  // namespace

Decoder::Decoder(const Kernels& kernels, const Model& model, KvCache& cache,
                 Communicator& communicator, const DecoderLimits& limits)
    : kernels_(kernels),
      model_(model),
      cache_(cache),
      communicator_(communicator),
      limits_(limits),
      attention_shape_(attention_shape(model.architecture())),
      layer_bytes_(largest_layer_bytes(model)),
      memory_(kernels.allocate(static_cast<size_t>(
          workspace_bytes(model.architecture(), model.compute_types(), limits)))),
      workspace_(lay_out(memory_.data(), model.architecture(), model.compute_types(), limits)) {
  CHECK(cache.type() == model.compute_types().cache(), "a KV cache of {} for {}",
        name_of(cache.type()), name_of(model.compute_types().cache()));
  fill_rotary_tables();
}

Decoder::Workspace Decoder::lay_out(void* memory, const Architecture& architecture,
                                    const ComputeTypes& types, const DecoderLimits& limits) {
  const Architecture& a = architecture;
  const int64_t tokens = limits.max_step_tokens;
  const DType before_rounding = types.integer_parts > 0 ? DType::kF32 : types.floats;
  Cutter cut(memory);
  Workspace space{
      .hidden = cut.tensor(tokens, a.hidden_size, DType::kF32),
      .normed = cut.tensor(tokens, a.hidden_size, types.floats),
      .qkv = cut.tensor(tokens, a.qkv_size(), DType::kF32),
      .q = cut.tensor(tokens, a.num_heads * a.head_dim, types.queries()),
      .attended = cut.tensor(tokens, a.num_heads * a.head_dim, before_rounding),
      .gated = cut.tensor(tokens, padded_intermediate_size(a), before_rounding),
      .scored = cut.tensor(limits.max_score_rows, a.hidden_size, types.floats),
      .quantized = cut.tensor(1, quantized_bytes(a, types.integer_parts, limits), DType::kInt8),
      .quantized_row_bytes = quantized_row_bytes(a, types.integer_parts),
      .logits = cut.tensor(limits.max_score_rows, a.vocab_size, DType::kF32),
      .chunk_maxima =
          cut.tensor(limits.max_score_rows, num_logit_chunks(a.vocab_size), DType::kF32),
      .attention = cut.attention_memory(
          attention_memory_bytes(attention_shape(a), tokens, limits.max_model_len)),
      .cos = cut.floats(limits.max_model_len * a.head_dim / 2),
      .sin = cut.floats(limits.max_model_len * a.head_dim / 2),
  };
  space.bytes = cut.bytes();
  return space;
}

int64_t Decoder::workspace_bytes(const Architecture& architecture, const ComputeTypes& types,
                                 const DecoderLimits& limits) {
  return lay_out(nullptr, architecture, types, limits).bytes;
}

// Angles are products of f32, as the reference implementations compute them; their cosines are
// exact.
void Decoder::fill_rotary_tables() {
  const std::vector<float> frequencies =
      rope_frequencies(model_.architecture(), limits_.max_model_len);
  const double factor = rope_attention_factor(model_.architecture());
  size_t entry = 0;
  for (int64_t position = 0; position < limits_.max_model_len; ++position) {
    for (const float frequency : frequencies) {
      const double angle = static_cast<float>(position) * frequency;
      workspace_.cos[entry] = static_cast<float>(std::cos(angle) * factor);
      workspace_.sin[entry] = static_cast<float>(std::sin(angle) * factor);
      ++entry;
    }
  }
}

void Decoder::forward(Lane& lane, const ForwardInput& input) {
  check_input(input, limits_);
  check_rows(input, model_.architecture().vocab_size, limits_.max_model_len);
  check_blocks(input, attention_shape_, cache_.num_blocks());
  const TokenRows rows = token_rows(input);
  const Tensor hidden = first_rows(workspace_.hidden, rows.count);
  const auto num_scored = static_cast<int64_t>(input.score_rows.size());
  // Before the first meeting: behind the last one other lanes already read it.
  if (lane.index() == 0) num_scored_rows_ = num_scored;

  kernels_.plan_attention(lane, attention_shape_, rows, workspace_.attention);
  kernels_.embed(lane, model_.embedding(), input.token_ids.data(), hidden);
  if (goes_by_strips(lane, rows.count)) {
    layers_by_strips(lane, rows);
  } else {
    layers_together(lane, rows);
  }

  // Only the rows that somebody asked for go through the head; in the middle of a prefill, none.
  if (num_scored == 0) return;
  const Tensor scored = input_of(model_.head(), first_rows(workspace_.scored, num_scored), 0);
  kernels_.rms_norm(lane, hidden, input.score_rows.data(), model_.final_norm(),
                    model_.architecture().norm_epsilon, scored);
  product(lane, scored, model_.head(), {.chunk_maxima = &workspace_.chunk_maxima},
          first_rows(workspace_.logits, num_scored));
}

// From one attention to the next no row needs another: strips of them go one behind the other.
template <typename ForEachStrip>
void Decoder::walk_layers(Lane& lane, Lane& of_strip, const TokenRows& rows,
                          const ForEachStrip& for_each_strip) {
  const std::vector<LayerWeights>& layers = model_.layers();
  const auto cache_of = [&](size_t i) { return cache_.layer(static_cast<int64_t>(i)); };
  std::optional<KvAhead> ahead;
  if (rows.count >= kLeastRowsAhead && rows.count <= kMostRowsAhead) {
    const Range units = lane.share(attention_shape_.num_kv_heads * rows.count);
    ahead.emplace(of_strip, units, attention_shape_, rows, cache_of(0));
    ahead->want(cache_of(0));
  }
  for_each_strip([&](const Strip& strip) { project_in(of_strip, layers[0], strip); });
  for (size_t i = 0; i < layers.size(); ++i) {
    attend(lane, layers[i], rows, cache_of(i));
    if (i + 1 == layers.size()) {
      ahead.reset();
    } else if (ahead) {
      ahead->want(cache_of(i + 1));
    }
    for_each_strip([&](const Strip& strip) {
      project_out(of_strip, layers[i], strip);
      feed_forward(of_strip, layers[i], strip);
      if (i + 1 < layers.size()) project_in(of_strip, layers[i + 1], strip);
    });
  }
}

// All lanes are in the same product, each with its own panels of the weight; of many rows with a
// strip at a time, so that one core's cache holds the product's inputs.
void Decoder::layers_together(Lane& lane, const TokenRows& rows) {
  const int64_t strip_rows = rows_of_strips(rows.count, kernels_.strip.rows_together);
  walk_layers(lane, lane, rows, [&](const auto& work) {
    for (int64_t begin = 0; begin < rows.count; begin += strip_rows) {
      work(Strip{{begin, std::min(begin + strip_rows, rows.count)}, 0});
    }
  });
}

bool Decoder::goes_by_strips(const Lane& lane, int64_t num_rows) const {
  return layer_bytes_ <= kMaxLayerBytes && communicator_.num_ranks() == 1 &&
         num_rows >= kernels_.strip.rows * lane.count();
}

// As many strips as come nearest to what is wanted, all of one size.
int64_t Decoder::rows_of_strips(int64_t num_rows, int64_t wanted) const {
  const int64_t num_strips = std::max<int64_t>(1, (num_rows + wanted / 2) / wanted);
  const int64_t rows = (num_rows + num_strips - 1) / num_strips;
  return round_up(rows, kernels_.strip.multiple_of);
}

// Rows of scratch space for each lane: a share, the largest if there is room.
int64_t Decoder::scratch_rows(int64_t num_rows, int64_t num_lanes) const {
  const int64_t largest = (num_rows + num_lanes - 1) / num_lanes;
  return largest * num_lanes <= limits_.max_step_tokens ? largest : num_rows / num_lanes;
}

// Many rows: each lane takes rows from one attention to the next, a strip at a time, so that what a
// strip's products leave for each other stays in the core's own cache. They meet only around the
// attention, where rows see each other.
void Decoder::layers_by_strips(Lane& lane, const TokenRows& rows) {
  const int64_t scratch = scratch_rows(rows.count, lane.count());
  const int64_t strip_rows = std::min(rows_of_strips(scratch, kernels_.strip.rows), scratch);
  Lane alone;
  walk_layers(lane, alone, rows, [&](const auto& work) {
    const auto share = [&](int owner) { return Lane::share_of(owner, lane.count(), rows.count); };
    lane.share_out(share, {.most = strip_rows, .least = strip_rows}, [&](Range strip) {
      work(Strip{strip, lane.index() * scratch});
    });
    lane.meet();
  });
}

// qkv = qkv(norm(hidden))
void Decoder::project_in(Lane& lane, const LayerWeights& weights, const Strip& strip) {
  const Tensor normed = input_of(weights.qkv, scratch_of(workspace_.normed, strip), strip.scratch);
  kernels_.rms_norm(lane, rows_of(workspace_.hidden, strip.rows), nullptr, weights.attention_norm,
                    model_.architecture().norm_epsilon, normed);
  product(lane, normed, weights.qkv, {.bias = weights.qkv_bias},
          rows_of(workspace_.qkv, strip.rows));
}

// attended = attention(rotate(qkv))
void Decoder::attend(Lane& lane, const LayerWeights& weights, const TokenRows& rows,
                     KvLayer cache) {
  const Tensor q = first_rows(workspace_.q, rows.count);
  const Tensor attended =
      before_rounding(weights.output, first_rows(workspace_.attended, rows.count));
  const Rotary rotary{.cos = workspace_.cos,
                      .sin = workspace_.sin,
                      .q_norm = weights.q_norm,
                      .k_norm = weights.k_norm,
                      .norm_epsilon = model_.architecture().norm_epsilon};
  kernels_.rotate_and_store(lane, first_rows(workspace_.qkv, rows.count), attention_shape_, rotary,
                            rows, q, cache);
  kernels_.attention(lane, q, attention_shape_, rows, cache, workspace_.attention, attended);
}

// hidden += output(attended)
void Decoder::project_out(Lane& lane, const LayerWeights& weights, const Strip& strip) {
  const Tensor hidden = rows_of(workspace_.hidden, strip.rows);
  const Tensor attended = rows_of(before_rounding(weights.output, workspace_.attended), strip.rows);
  product(lane, rounded(lane, weights.output, attended, strip.scratch), weights.output,
          {.bias = weights.output_bias, .residual = &hidden}, hidden, Reduction::kSumOverRanks);
}

// hidden += down(silu(gate(norm(hidden))) * up(norm(hidden)))
void Decoder::feed_forward(Lane& lane, const LayerWeights& weights, const Strip& strip) {
  const Tensor hidden = rows_of(workspace_.hidden, strip.rows);
  const Tensor normed =
      input_of(weights.gate_up, scratch_of(workspace_.normed, strip), strip.scratch);
  const Tensor gated = before_rounding(weights.down, scratch_of(workspace_.gated, strip));

  kernels_.rms_norm(lane, hidden, nullptr, weights.mlp_norm, model_.architecture().norm_epsilon,
                    normed);
  product(lane, normed, weights.gate_up, {.bias = weights.gate_up_bias, .silu_times_up = true},
          gated);
  product(lane, rounded(lane, weights.down, gated, strip.scratch), weights.down,
          {.bias = weights.down_bias, .residual = &hidden}, hidden, Reduction::kSumOverRanks);
}

Tensor Decoder::scratch_of(Tensor tensor, const Strip& strip) {
  return rows_of(tensor, {strip.scratch, strip.scratch + strip.rows.size()});
}

Tensor Decoder::input_of(const PackedWeight& weight, Tensor floats, int64_t first_row) const {
  if (!is_integer(weight.format)) return floats;
  const QuantizedForm form = input_form(weight);
  const int64_t begin = first_row * workspace_.quantized_row_bytes;
  const Tensor integers{.data = static_cast<unsigned char*>(workspace_.quantized.data) + begin,
                        .rows = floats.rows,
                        .cols = weight.k,
                        .stride = quantized_run_bytes(form, weight.k),
                        .type = DType::kInt8,
                        .form = form};
  CHECK(begin + integers.rows * form.parts * integers.stride <= workspace_.quantized.cols,
        "{} rows of {} integers in {} bytes", integers.rows, weight.k, workspace_.quantized.cols);
  return integers;
}

Tensor Decoder::before_rounding(const PackedWeight& weight, Tensor space) const {
  return retyped(space, is_integer(weight.format) ? DType::kF32 : model_.compute_types().floats);
}

Tensor Decoder::rounded(Lane& lane, const PackedWeight& weight, Tensor floats, int64_t first_row) {
  if (!is_integer(weight.format)) return floats;
  const Tensor integers = input_of(weight, floats, first_row);
  kernels_.quantize(lane, floats, integers);
  return integers;
}

// Where a weight is split over ranks by its inputs, every rank has a part of each sum. Bias and
// residual go into the first rank's part, so that the sum over ranks holds them once.
void Decoder::product(Lane& lane, Tensor in, const PackedWeight& weight, Epilogue epilogue,
                      Tensor out, Reduction reduction) {
  if (reduction == Reduction::kSumOverRanks && communicator_.rank() != 0) epilogue = {};
  kernels_.matmul(lane, in, weight, epilogue, out);
  if (reduction == Reduction::kSumOverRanks) {
    communicator_.all_reduce_sum(lane, static_cast<float*>(out.data), out.rows * out.stride);
  }
}

Tensor Decoder::logits() const { return first_rows(workspace_.logits, num_scored_rows_); }

Logits Decoder::logits_of(int64_t row) const {
  const auto row_of = [&](const Tensor& tensor) {
    return static_cast<const float*>(tensor.data) + row * tensor.stride;
  };
  return {row_of(workspace_.logits), workspace_.logits.cols, row_of(workspace_.chunk_maxima)};
}

}  // namespace tidemill

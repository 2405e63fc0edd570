#include "measure/step_work.h"

#include <algorithm>

#include "model/kv_cache.h"

namespace tidemill {
namespace {

constexpr std::string_view kEmbedding = "embedding";
constexpr std::string_view kHead = "head";

double seen(const ModelCost& cost, double positions) {
  return cost.window == 0 ? positions : std::min(positions, static_cast<double>(cost.window));
}

// Multiplications and additions of one row's product.
double operations_of(const EngineTensor& tensor, int32_t input_parts) {
  const int32_t parts = is_integer(tensor.format) ? input_parts : 1;
  return 2.0 * static_cast<double>(tensor.n * tensor.k) * parts;
}

}  // namespace

ModelCost cost_of(const Manifest& manifest, const ComputeTypes& types) {
  const Architecture& a = manifest.architecture;
  ModelCost cost{
      .attention_operations = 4.0 * types.attention_parts() *
                              static_cast<double>(a.num_heads * a.head_dim * a.num_layers),
      .kv_bytes = static_cast<double>(kv_bytes_per_block(a, types.cache())) /
                  static_cast<double>(kTokensPerBlock),
      .window = a.sliding_window};
  for (const EngineTensor& tensor : manifest.tensors) {
    const bool is_embedding = tensor.name == kEmbedding;
    if (tensor.name == kHead || (is_embedding && a.tied_head)) {
      cost.head_operations = operations_of(tensor, kHeadInputParts);
    } else if (is_embedding) {
      continue;  // of it a step reads a row for each token
    } else {
      cost.body_operations += operations_of(tensor, types.integer_parts);
    }
    cost.weight_bytes += static_cast<double>(tensor.bytes);
  }
  return cost;
}

Work decode_work(const ModelCost& cost, double sequences, double context, double steps) {
  const double positions = sequences * seen(cost, context);
  return {.tokens = sequences * steps,
          .bytes = steps * (cost.weight_bytes + positions * cost.kv_bytes),
          .operations = {.body = steps * sequences * cost.body_operations,
                         .head = steps * sequences * cost.head_operations,
                         .attention = steps * positions * cost.attention_operations}};
}

Work prefill_work(const ModelCost& cost, int64_t prompts, int64_t prompt_tokens,
                  int64_t step_tokens) {
  const auto count = static_cast<double>(prompts);
  const int64_t steps = (prompts * prompt_tokens + step_tokens - 1) / step_tokens;
  double pairs = 0.0;  // of a query and a position that it sees, in one prompt
  double read = 0.0;   // positions that were stored by earlier steps of the same prompt
  for (int64_t i = 0; i < prompt_tokens; ++i) pairs += seen(cost, static_cast<double>(i + 1));
  for (int64_t i = step_tokens; i < prompt_tokens; i += step_tokens) {
    read += seen(cost, static_cast<double>(i));
  }
  const double tokens = count * static_cast<double>(prompt_tokens);
  return {.tokens = tokens,
          .bytes = static_cast<double>(steps) * cost.weight_bytes + count * read * cost.kv_bytes,
          .operations = {.body = tokens * cost.body_operations,
                         .head = count * cost.head_operations,
                         .attention = count * pairs * cost.attention_operations}};
}

}  // namespace tidemill

// What a network is, as data: numbers and switches. A family is a row of a table that turns a
// config.json into one of these; the decoder (decoder.h) knows no family names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "base/token_id.h"

namespace tidemill {

enum class RopeScaling { kNone, kLinear, kDynamic, kLlama3, kYarn };

// Rotary embedding. Formulas: checkpoints.md 2.1 (RoFormer; YaRN, Peng et al. 2023).
struct RopeDescription {
  double theta = 10000.0;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;
  double low_freq_factor = 1.0;   // llama3
  double high_freq_factor = 4.0;  // llama3
  int64_t original_max_positions = 0;
  double beta_fast = 32.0;         // yarn
  double beta_slow = 1.0;          // yarn
  double attention_factor = 1.0;   // yarn: cos and sin are multiplied by it
  bool truncate = true;            // yarn
  std::vector<double> divisors{};  // GGUF rope_freqs: frequency j is divided by divisors[j]
};

struct Architecture {
  std::string family;  // "llama", "mistral", "qwen2", "qwen3": for people
  int64_t hidden_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t intermediate_size = 0;
  int64_t vocab_size = 0;  // ids that may be chosen; the embedding may have more rows
  int64_t max_positions = 0;
  float norm_epsilon = 1e-6f;
  bool tied_head = false;
  bool qkv_bias = false;
  bool output_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;        // RMS norm per head on q and k, before rotary
  int64_t sliding_window = 0;  // 0: none
  RopeDescription rope;
  std::optional<TokenId> bos_token_id;
  std::vector<TokenId> eos_token_ids;

  int64_t qkv_size() const { return (num_heads + 2 * num_kv_heads) * head_dim; }
};

// From config.json (Hugging Face keys). Throws std::runtime_error naming the key, what it holds and
// what is allowed; a family or a setting that is not supported is refused by name.
Architecture read_architecture(const JsonValue& config);

// To and from engine.json.
JsonValue to_json(const Architecture& architecture);
Architecture architecture_from_json(const JsonValue& value);

// Rotated frequencies [head_dim / 2] for a model that serves at most max_model_len positions
// (dynamic scaling fixes its length there, so that cached keys stay valid).
std::vector<float> rope_frequencies(const Architecture& architecture, int64_t max_model_len);
// The factor on cos and sin.
float rope_attention_factor(const Architecture& architecture);

}  // namespace tidemill

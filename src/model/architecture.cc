#include "model/architecture.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "base/check.h"
#include "kernels/kv_layout.h"
#include "model/json_fields.h"
#include "model/rope.h"

namespace tidemill {
namespace {

// How a family says which of its projections have a bias, and which layers see only a window.
enum class AttentionBias { kNone, kAttentionBiasKey, kAlwaysOnQkv };
enum class Window { kNone, kSlidingWindowKey, kUseSlidingWindowKey };

// What tells the families apart. Everything else is a number in config.json.
struct Family {
  std::string_view class_name;  // "architectures" of config.json
  std::string_view model_type;  // where "architectures" is absent
  std::string_view name;
  double norm_epsilon;  // defaults, where config.json is silent
  bool tied_head;
  AttentionBias attention_bias;
  bool mlp_bias_key;
  bool qk_norm;
  Window window;
};
constexpr Family kFamilies[] = {
    {"LlamaForCausalLM", "llama", "llama", 1e-6, false, AttentionBias::kAttentionBiasKey, true,
     false, Window::kNone},
    {"MistralForCausalLM", "mistral", "mistral", 1e-6, false, AttentionBias::kNone, false, false,
     Window::kSlidingWindowKey},
    {"Qwen2ForCausalLM", "qwen2", "qwen2", 1e-6, false, AttentionBias::kAlwaysOnQkv, false, false,
     Window::kUseSlidingWindowKey},
    {"Qwen3ForCausalLM", "qwen3", "qwen3", 1e-6, false, AttentionBias::kAttentionBiasKey, false,
     true, Window::kUseSlidingWindowKey},
};

// Sane sizes: what is beyond them is a damaged or hostile file, not a model. They also keep every
// later product of sizes far inside 63 bits.
constexpr JsonFields::Bounds kHiddenBounds{1, 65536};
constexpr JsonFields::Bounds kLayerBounds{1, 1024};
constexpr JsonFields::Bounds kHeadBounds{1, 1024};
constexpr JsonFields::Bounds kHeadDimBounds{2, kMaxHeadDim};
constexpr JsonFields::Bounds kIntermediateBounds{1, int64_t{1} << 20};
constexpr JsonFields::Bounds kVocabBounds{1, int64_t{1} << 21};

std::string supported_families() {
  std::string names;
  for (const Family& family : kFamilies) {
    names += (names.empty() ? "" : ", ") + std::string(family.class_name);
  }
  return names;
}

const Family& family_of(const JsonFields& config) {
  std::string class_name;
  const JsonValue* classes = config.find("architectures");
  if (classes != nullptr && classes->is_array() && !classes->array().empty()) {
    const JsonValue& first = classes->array()[0];
    if (!first.is_string()) throw config.wrong("architectures[0]", first, "a string");
    class_name = first.string();
  }
  const std::string model_type = class_name.empty() ? config.text("model_type") : "";
  for (const Family& family : kFamilies) {
    if (class_name.empty() ? model_type == family.model_type : class_name == family.class_name) {
      return family;
    }
  }
  throw std::runtime_error(format("{}: the architecture {} is not supported. Supported are: {}.",
                                  config.source(), class_name.empty() ? model_type : class_name,
                                  supported_families()));
}

// Settings that change the arithmetic in ways that we do not compute: refused, never ignored.
void refuse_unsupported(const JsonFields& config) {
  for (const std::string_view key : {"hidden_act", "hidden_activation"}) {
    const JsonValue* name = config.find(key);
    if (name != nullptr && *name != JsonValue("silu") && *name != JsonValue("swish")) {
      throw config.wrong(key, *name, "silu, the only activation that is supported");
    }
  }
  if (const JsonValue* quantization = config.find("quantization_config")) {
    throw config.wrong("quantization_config", *quantization,
                       "absent: quantised Hugging Face checkpoints are not supported yet. Name the "
                       "unquantised checkpoint, or a GGUF file");
  }
}

// What transformers takes where a configuration is silent.
constexpr int64_t kDefaultWindow = 4096;
constexpr int64_t kDefaultMaxWindowLayers = 28;

int64_t window_of(const JsonFields& config, Window rule, int64_t num_layers) {
  if (rule == Window::kNone) return 0;
  if (rule == Window::kUseSlidingWindowKey && !config.boolean("use_sliding_window", false)) {
    return 0;
  }
  // null switches it off; where there is no such key, transformers has a default.
  if (config.is_null("sliding_window")) return 0;
  const int64_t window = config.integer({"sliding_window"}, kPositionBounds, kDefaultWindow);
  // Where only some layers are windowed, the cache would need a second group of blocks.
  if (rule == Window::kUseSlidingWindowKey) {
    const int64_t first =
        config.integer({"max_window_layers"}, {0, kLayerBounds.max}, kDefaultMaxWindowLayers);
    if (first >= num_layers) return 0;
    if (first > 0) {
      throw config.wrong("max_window_layers", first,
                         format("0, or at least {} (windows on some of the layers only are not "
                                "supported)",
                                num_layers));
    }
  }
  return window;
}

// "layer_types" of newer exports must say for every layer what the older keys say for all.
void check_layer_types(const JsonFields& config, int64_t window, int64_t num_layers) {
  if (config.find("layer_types") == nullptr) return;
  const auto count = static_cast<int64_t>(config.array("layer_types").size());
  if (count != num_layers) {
    throw std::runtime_error(format("{}: layer_types has {} entries, and there are {} layers",
                                    config.source(), count, num_layers));
  }
  const JsonValue expected(window > 0 ? "sliding_attention" : "full_attention");
  for (const JsonValue& type : config.array("layer_types")) {
    if (type != expected) {
      throw config.wrong(
          "layer_types", type,
          format("{} for every layer (mixed kinds are not supported)", expected.string()));
    }
  }
}

// An id, or several, or none; -1 means none.
std::vector<TokenId> read_ids(const JsonFields& config, std::string_view key, int64_t vocab_size) {
  const JsonValue* value = config.find(key);
  if (value == nullptr) return {};
  const JsonArray ids = value->is_array() ? value->array() : JsonArray{*value};
  std::vector<TokenId> read;
  for (const JsonValue& id : ids) {
    if (id == JsonValue(-1)) continue;
    if (!id.fits_int64() || id.integer() < 0 || id.integer() >= vocab_size) {
      throw config.wrong(key, id, format("a token id from 0 to {}", vocab_size - 1));
    }
    read.push_back(static_cast<TokenId>(id.integer()));
  }
  return read;
}

// Checks what concerns several numbers together; each alone has been checked against its bounds.
void check_together(const Architecture& architecture, std::string_view source) {
  if (architecture.num_heads % architecture.num_kv_heads != 0) {
    throw std::runtime_error(format("{}: {} attention heads cannot share {} key-value heads evenly",
                                    source, architecture.num_heads, architecture.num_kv_heads));
  }
  if (architecture.head_dim < kHeadDimBounds.min || architecture.head_dim > kHeadDimBounds.max) {
    throw std::runtime_error(format("{}: the head size is {}; it must lie between {} and {}",
                                    source, architecture.head_dim, kHeadDimBounds.min,
                                    kHeadDimBounds.max));
  }
  if (architecture.head_dim % 2 != 0) {
    throw std::runtime_error(
        format("{}: the head size is {}; it must be even, because rotary "
               "embedding turns pairs",
               source, architecture.head_dim));
  }
  if (!(architecture.norm_epsilon > 0.0f && architecture.norm_epsilon < 1.0f)) {
    throw std::runtime_error(format("{}: rms_norm_eps is {}; it must lie between 0 and 1", source,
                                    architecture.norm_epsilon));
  }
}

// The numbers of rotary embedding are sane one by one; their quotients must be, too.
void check_frequencies(const Architecture& architecture, std::string_view source) {
  for (const float frequency : rope_frequencies(architecture, architecture.max_positions)) {
    if (std::isfinite(frequency)) continue;
    throw std::runtime_error(
        format("{}: theta, factor or divisors of rotary embedding give a frequency of {}", source,
               frequency));
  }
}

void read_sizes(const JsonFields& config, Architecture& architecture) {
  Architecture& a = architecture;
  a.hidden_size = config.integer({"hidden_size", "n_embd", "n_embed", "d_model"}, kHiddenBounds);
  a.num_layers =
      config.integer({"num_hidden_layers", "n_layer", "n_layers", "num_layers"}, kLayerBounds);
  a.num_heads = config.integer({"num_attention_heads", "n_head", "n_heads"}, kHeadBounds);
  a.num_kv_heads = config.integer({"num_key_value_heads", "num_kv_heads", "n_head_kv"},
                                  {1, a.num_heads}, a.num_heads);
  if (config.find("head_dim") == nullptr && a.hidden_size % a.num_heads != 0) {
    throw std::runtime_error(
        format("{}: hidden_size {} is not a multiple of num_attention_heads "
               "{}, and head_dim is missing",
               config.source(), a.hidden_size, a.num_heads));
  }
  a.head_dim = config.integer({"head_dim"}, kHeadDimBounds, a.hidden_size / a.num_heads);
  a.intermediate_size = config.integer(
      {"intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"}, kIntermediateBounds);
  a.vocab_size = config.integer({"vocab_size"}, kVocabBounds);
  a.max_positions = config.integer({"max_position_embeddings", "n_positions", "n_ctx",
                                    "max_seq_len", "max_sequence_length", "seq_length"},
                                   kPositionBounds);
}

}  // namespace

Architecture read_architecture(const JsonValue& value) {
  const JsonFields config(value, "config.json");
  const Family& family = family_of(config);
  refuse_unsupported(config);

  Architecture architecture;
  architecture.family = family.name;
  read_sizes(config, architecture);
  architecture.norm_epsilon = static_cast<float>(
      config.number({"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"}, family.norm_epsilon));
  architecture.tied_head = config.boolean("tie_word_embeddings", family.tied_head);
  const bool bias_key = family.attention_bias == AttentionBias::kAttentionBiasKey &&
                        config.boolean("attention_bias", false);
  architecture.qkv_bias = bias_key || family.attention_bias == AttentionBias::kAlwaysOnQkv;
  architecture.output_bias = bias_key;
  architecture.mlp_bias = family.mlp_bias_key && config.boolean("mlp_bias", false);
  architecture.qk_norm = family.qk_norm;
  architecture.sliding_window = window_of(config, family.window, architecture.num_layers);
  check_layer_types(config, architecture.sliding_window, architecture.num_layers);
  check_together(architecture, config.source());
  architecture.rope = read_rope(config, architecture.head_dim, architecture.max_positions);
  check_frequencies(architecture, config.source());

  const std::vector<TokenId> bos = read_ids(config, "bos_token_id", architecture.vocab_size);
  if (!bos.empty()) architecture.bos_token_id = bos.front();
  architecture.eos_token_ids = read_ids(config, "eos_token_id", architecture.vocab_size);
  return architecture;
}

JsonValue to_json(const Architecture& architecture) {
  const Architecture& a = architecture;
  JsonArray eos(a.eos_token_ids.begin(), a.eos_token_ids.end());
  return JsonObject{
      {"family", a.family},
      {"hidden_size", a.hidden_size},
      {"num_layers", a.num_layers},
      {"num_heads", a.num_heads},
      {"num_kv_heads", a.num_kv_heads},
      {"head_dim", a.head_dim},
      {"intermediate_size", a.intermediate_size},
      {"vocab_size", a.vocab_size},
      {"max_positions", a.max_positions},
      {"norm_epsilon", static_cast<double>(a.norm_epsilon)},
      {"tied_head", a.tied_head},
      {"qkv_bias", a.qkv_bias},
      {"output_bias", a.output_bias},
      {"mlp_bias", a.mlp_bias},
      {"qk_norm", a.qk_norm},
      {"sliding_window", a.sliding_window},
      {"rope", to_json(a.rope)},
      {"bos_token_id", a.bos_token_id ? JsonValue(*a.bos_token_id) : JsonValue()},
      {"eos_token_ids", std::move(eos)},
  };
}

Architecture architecture_from_json(const JsonValue& value) {
  const JsonFields fields(value, "engine.json: architecture");
  Architecture a;
  a.family = fields.text("family");
  a.hidden_size = fields.integer({"hidden_size"}, kHiddenBounds);
  a.num_layers = fields.integer({"num_layers"}, kLayerBounds);
  a.num_heads = fields.integer({"num_heads"}, kHeadBounds);
  a.num_kv_heads = fields.integer({"num_kv_heads"}, kHeadBounds);
  a.head_dim = fields.integer({"head_dim"}, kHeadDimBounds);
  a.intermediate_size = fields.integer({"intermediate_size"}, kIntermediateBounds);
  a.vocab_size = fields.integer({"vocab_size"}, kVocabBounds);
  a.max_positions = fields.integer({"max_positions"}, kPositionBounds);
  a.norm_epsilon = static_cast<float>(fields.number({"norm_epsilon"}));
  a.tied_head = fields.boolean("tied_head");
  a.qkv_bias = fields.boolean("qkv_bias");
  a.output_bias = fields.boolean("output_bias");
  a.mlp_bias = fields.boolean("mlp_bias");
  a.qk_norm = fields.boolean("qk_norm");
  a.sliding_window = fields.integer({"sliding_window"}, {0, kPositionBounds.max});
  check_together(a, fields.source());
  a.rope = rope_from_json(fields.object("rope"), a.head_dim);
  check_frequencies(a, fields.source());
  const std::vector<TokenId> bos = read_ids(fields, "bos_token_id", a.vocab_size);
  if (!bos.empty()) a.bos_token_id = bos.front();
  a.eos_token_ids = read_ids(fields, "eos_token_ids", a.vocab_size);
  return a;
}

}  // namespace tidemill

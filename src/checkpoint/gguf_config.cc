#include "checkpoint/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/check.h"
#include "checkpoint/checkpoint.h"

namespace tidemill {
namespace {

struct Family {
  std::string_view architecture;  // general.architecture
  std::string_view class_name;    // architectures[0] of a config.json
  std::string_view model_type;
};

// "llama" is what converters write for Llama, CodeLlama, Mistral and SmolLM alike.
constexpr Family kFamilies[] = {
    {"llama", "LlamaForCausalLM", "llama"},
    {"qwen2", "Qwen2ForCausalLM", "qwen2"},
    {"qwen3", "Qwen3ForCausalLM", "qwen3"},
};

// Typed reading of "<architecture>.<name>".
class Metadata {
 public:
  Metadata(const JsonValue& values, std::string prefix, const std::string& file)
      : values_(values), prefix_(std::move(prefix)), file_(file) {}

  const JsonValue* find(std::string_view name) const {
    return values_.find(prefix_ + std::string(name));
  }

  // An integer, or a list that repeats the same one for every layer.
  std::optional<int64_t> integer(std::string_view name) const {
    const JsonValue* value = find(name);
    if (value == nullptr) return std::nullopt;
    if (value->is_array() && !value->array().empty()) {
      check_layers(name, value->array().size());
      for (const JsonValue& item : value->array()) {
        if (!(item == value->array().front())) fail(name, "differs between layers");
      }
      value = &value->array().front();
    }
    if (!value->is_integer() || !value->fits_int64()) fail(name, "must be an integer");
    return value->integer();
  }

  std::optional<double> real(std::string_view name) const {
    const JsonValue* value = find(name);
    if (value == nullptr) return std::nullopt;
    if (!value->is_number() || !std::isfinite(value->number())) fail(name, "must be a number");
    return value->number();
  }

  std::optional<std::string> text(std::string_view name) const {
    const JsonValue* value = find(name);
    if (value == nullptr) return std::nullopt;
    if (!value->is_string()) fail(name, "must be a string");
    return value->string();
  }

  int64_t required_integer(std::string_view name) const {
    const auto value = integer(name);
    if (!value) fail(name, "is missing");
    return *value;
  }

  [[noreturn]] void fail(std::string_view name, std::string_view reason) const {
    throw CheckpointError(format("{}: {}{} {}.", file_, prefix_, name, reason));
  }

 private:
  void check_layers(std::string_view name, size_t num_values) const {
    const JsonValue* layers = find("block_count");
    if (layers == nullptr) return;
    if (!layers->fits_int64()) fail("block_count", "must be an integer");
    if (layers->integer() == static_cast<int64_t>(num_values)) return;
    fail(name, format("has {} values, and there are {} layers", num_values, layers->integer()));
  }

  const JsonValue& values_;
  std::string prefix_;
  const std::string& file_;
};

const Family& family_of(const JsonValue& metadata, const std::string& file) {
  const JsonValue* name = metadata.find("general.architecture");
  if (name == nullptr || !name->is_string()) {
    throw CheckpointError(format("{}: general.architecture is missing.", file));
  }
  std::string known;
  for (const Family& family : kFamilies) {
    if (family.architecture == name->string()) return family;
    known += format(" {}", family.architecture);
  }
  throw CheckpointError(format("{}: architecture {} is not supported; these are:{}.", file,
                               name->string().substr(0, 40), known));
}

// Keys that change the arithmetic in ways that we do not compute, and the value that changes
// nothing beside zero.
struct NeutralKey {
  std::string_view name;
  double neutral = 0.0;
};
constexpr NeutralKey kNeutralKeys[] = {
    {"expert_count"},
    {"attn_logit_softcapping"},
    {"final_logit_softcapping"},
    {"attention.clamp_kqv"},
    {"attention.max_alibi_bias"},
    {"attention.scale"},
    {"logit_scale", 1.0},
    {"embedding_scale", 1.0},
    {"residual_scale", 1.0},
    // Some writers mean the whole factor by these, some one on top of YaRN's own.
    {"rope.scaling.attn_factor", 1.0},
    {"rope.scaling.yarn_attn_factor", 1.0},
    {"rope.scaling.yarn_ext_factor", 1.0},
    {"rope.scaling.yarn_log_multiplier"},
};

void refuse_other_arithmetic(const Metadata& meta) {
  for (const NeutralKey& key : kNeutralKeys) {
    const double value = meta.real(key.name).value_or(0.0);
    if (value != 0.0 && value != key.neutral) {
      meta.fail(key.name, format("is {}: what it asks for is not supported", value));
    }
  }
}

void set_rope_scaling(JsonValue& config, const Metadata& meta) {
  const auto type = meta.text("rope.scaling.type");
  const auto old_scale = meta.real("rope.scale_linear");
  if (!type && old_scale && *old_scale != 1.0) {
    config.set("rope_scaling", JsonObject{{"rope_type", "linear"}, {"factor", *old_scale}});
  }
  if (!type || *type == "none") return;
  if (*type != "linear" && *type != "yarn") {
    meta.fail("rope.scaling.type", format("{} is not supported", type->substr(0, 20)));
  }
  const auto factor = meta.real("rope.scaling.factor");
  if (!factor) meta.fail("rope.scaling.factor", "is missing");
  JsonValue scaling = JsonObject{{"rope_type", *type}, {"factor", *factor}};
  if (const auto original = meta.integer("rope.scaling.original_context_length")) {
    scaling.set("original_max_position_embeddings", *original);
  }
  for (const char* beta : {"beta_fast", "beta_slow"}) {
    const auto value = meta.real(std::string("rope.scaling.yarn_") + beta);
    if (value) scaling.set(beta, *value);
  }
  config.set("rope_scaling", std::move(scaling));
}

void set_token_ids(JsonValue& config, const JsonValue& metadata, const std::string& file) {
  const Metadata tokenizer(metadata, "tokenizer.ggml.", file);
  if (const auto id = tokenizer.integer("bos_token_id")) config.set("bos_token_id", *id);
  JsonArray ends;
  for (const char* name : {"eos_token_id", "eot_token_id", "eom_token_id"}) {
    if (const auto id = tokenizer.integer(name)) ends.emplace_back(*id);
  }
  if (!ends.empty()) config.set("eos_token_id", std::move(ends));
}

}  // namespace

JsonValue config_from_gguf(const JsonValue& metadata, bool has_output_tensor,
                           int64_t embedding_rows, const std::string& file) {
  const Family& family = family_of(metadata, file);
  const Metadata meta(metadata, std::string(family.architecture) + ".", file);
  const auto epsilon = meta.real("attention.layer_norm_rms_epsilon");
  if (!epsilon) meta.fail("attention.layer_norm_rms_epsilon", "is missing");
  const int64_t heads = meta.required_integer("attention.head_count");
  JsonValue config =
      JsonObject{{"architectures", JsonArray{JsonValue(std::string(family.class_name))}},
                 {"model_type", std::string(family.model_type)},
                 {"hidden_size", meta.required_integer("embedding_length")},
                 {"num_hidden_layers", meta.required_integer("block_count")},
                 {"num_attention_heads", heads},
                 {"num_key_value_heads", meta.integer("attention.head_count_kv").value_or(heads)},
                 {"intermediate_size", meta.required_integer("feed_forward_length")},
                 {"max_position_embeddings", meta.required_integer("context_length")},
                 {"rms_norm_eps", *epsilon},
                 {"rope_theta", meta.real("rope.freq_base").value_or(10000.0)},
                 {"vocab_size", embedding_rows},
                 {"tie_word_embeddings", !has_output_tensor},
                 {"hidden_act", "silu"}};
  if (const auto length = meta.integer("attention.key_length")) {
    if (meta.integer("attention.value_length").value_or(*length) != *length) {
      meta.fail("attention.value_length", "differs from attention.key_length");
    }
    config.set("head_dim", *length);
  }
  // Of a Qwen, the metadata does not say whether its window is switched on; published ones are not.
  const int64_t window = meta.integer("attention.sliding_window").value_or(0);
  if (window > 0 && family.architecture == "llama") {
    config.set("sliding_window", window);
    config.set("architectures", JsonArray{JsonValue("MistralForCausalLM")});
    config.set("model_type", "mistral");
  }
  const int64_t head_dim =
      meta.integer("attention.key_length")
          .value_or(meta.required_integer("embedding_length") / std::max<int64_t>(heads, 1));
  if (meta.integer("rope.dimension_count").value_or(head_dim) != head_dim) {
    meta.fail("rope.dimension_count", "is not the head's size: partial rotary is not supported");
  }
  refuse_other_arithmetic(meta);
  set_rope_scaling(config, meta);
  set_token_ids(config, metadata, file);
  return config;
}

}  // namespace tidemill

// GGUF metadata in the words of a config.json.
#include "checkpoint/gguf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "checkpoint/test_files.h"

namespace tidemill {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class GgufConfig : public testing::Test {
 protected:
  GgufConfig() {
    metadata_ = JsonObject{
        {"general.architecture", "llama"},    {"llama.block_count", 3},
        {"llama.context_length", 512},        {"llama.embedding_length", 64},
        {"llama.feed_forward_length", 96},    {"llama.attention.head_count", 4},
        {"llama.attention.head_count_kv", 2}, {"llama.attention.layer_norm_rms_epsilon", 1e-5}};
  }

  void set(std::string_view key, JsonValue value) { metadata_.set(key, std::move(value)); }
  void remove(std::string_view key) {
    std::erase_if(metadata_.object(), [&](const JsonMember& m) { return m.first == key; });
  }
  // The same network under another architecture's name.
  void rename_to(const std::string& architecture) {
    for (auto& [key, value] : metadata_.object()) {
      if (key.starts_with("llama.")) key = architecture + key.substr(5);
    }
    set("general.architecture", architecture);
  }
  JsonValue config(bool has_output = true) const {
    return config_from_gguf(metadata_, has_output, /*embedding_rows=*/131, "m.gguf");
  }
  JsonValue value(std::string_view key) const {
    const JsonValue all = config();
    const JsonValue* found = all.find(key);
    return found == nullptr ? JsonValue("absent") : *found;
  }
  std::string refusal() const {
    return refusal_of([&] { config(); });
  }

  JsonValue metadata_;
};

TEST_F(GgufConfig, EveryKeyHasItsHuggingFaceName) {
  const JsonValue expected = *parse_json(R"({"architectures": ["LlamaForCausalLM"],
      "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
      "num_key_value_heads": 2, "intermediate_size": 96, "max_position_embeddings": 512,
      "rms_norm_eps": 0.00001, "rope_theta": 10000.0, "vocab_size": 131,
      "tie_word_embeddings": false, "hidden_act": "silu"})");
  EXPECT_EQ(config(), expected);
}

TEST_F(GgufConfig, OptionalKeysAreTaken) {
  set("llama.rope.freq_base", 5e5);
  set("llama.attention.key_length", 32);
  set("llama.attention.value_length", 32);
  set("llama.rope.dimension_count", 32);
  EXPECT_EQ(value("rope_theta"), JsonValue(5e5));
  EXPECT_EQ(value("head_dim"), JsonValue(32));
  remove("llama.attention.head_count_kv");
  EXPECT_EQ(value("num_key_value_heads"), JsonValue(4)) << "as many as query heads";
}

TEST_F(GgufConfig, WithoutAnOutputTensorTheHeadIsTied) {
  EXPECT_EQ(*config(/*has_output=*/false).find("tie_word_embeddings"), JsonValue(true));
}

TEST_F(GgufConfig, FamiliesAreNamedAndOthersRefusedByName) {
  rename_to("qwen2");
  EXPECT_EQ(value("architectures"), JsonValue(JsonArray{"Qwen2ForCausalLM"}));
  EXPECT_EQ(value("hidden_size"), JsonValue(64));
  set("general.architecture", "gemma2");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("architecture gemma2 is not supported"),
                               HasSubstr("llama qwen2 qwen3")));
  set("general.architecture", 7);
  EXPECT_THAT(refusal(), HasSubstr("general.architecture is missing"));
}

TEST_F(GgufConfig, AWindowMakesALlamaAMistralAndLeavesAQwenOne) {
  set("llama.attention.sliding_window", 0);
  EXPECT_EQ(value("model_type"), JsonValue("llama"));
  set("llama.attention.sliding_window", 32);
  EXPECT_EQ(value("architectures"), JsonValue(JsonArray{"MistralForCausalLM"}));
  EXPECT_EQ(value("sliding_window"), JsonValue(32));
  rename_to("qwen2");
  EXPECT_EQ(value("model_type"), JsonValue("qwen2")) << "its biases and its rows are a Qwen's";
}

TEST_F(GgufConfig, RequiredKeysAreNamedWhenTheyAreMissing) {
  const JsonObject all = metadata_.object();
  for (const auto& [key, ignored] : all) {
    if (key == "llama.attention.head_count_kv") continue;
    metadata_ = all;
    remove(key);
    EXPECT_THAT(refusal(), HasSubstr("m.gguf: " + key + " is missing")) << key;
  }
}

TEST_F(GgufConfig, ValuesOfAnotherTypeAreRefusedByTheirKey) {
  const JsonObject all = metadata_.object();
  for (const auto& [key, ignored] : all) {
    for (const JsonValue& wrong : {JsonValue(JsonObject{}), JsonValue(true), JsonValue(JsonArray{}),
                                   JsonValue(JsonArray{"4", "4", "4"}), JsonValue(~uint64_t{0})}) {
      if (key == "llama.attention.layer_norm_rms_epsilon" && wrong.is_number()) continue;
      metadata_ = all;
      set(key, wrong);
      EXPECT_THAT(refusal(), HasSubstr(key)) << to_json(wrong);
    }
  }
  metadata_ = all;
  set("llama.attention.head_count", 4.0);
  EXPECT_THAT(refusal(), HasSubstr("llama.attention.head_count must be an integer"));
  metadata_ = all;
  set("llama.rope.freq_base", std::numeric_limits<double>::quiet_NaN());
  EXPECT_THAT(refusal(), HasSubstr("llama.rope.freq_base must be a number"));
}

TEST_F(GgufConfig, NumbersPerLayerMustAgreeAndBeOneForEachLayer) {
  set("llama.attention.head_count_kv", JsonArray{2, 2, 2});
  EXPECT_EQ(value("num_key_value_heads"), JsonValue(2));
  set("llama.attention.head_count_kv", JsonArray{2, 1, 2});
  EXPECT_THAT(refusal(), HasSubstr("llama.attention.head_count_kv differs between layers"));
  set("llama.attention.head_count_kv", JsonArray{2, 2});
  EXPECT_THAT(refusal(), HasSubstr("head_count_kv has 2 values, and there are 3 layers"));
}

TEST_F(GgufConfig, RotaryScalingIsTranslated) {
  set("llama.rope.scaling.type", "none");
  EXPECT_EQ(value("rope_scaling"), JsonValue("absent"));
  set("llama.rope.scaling.type", "linear");
  set("llama.rope.scaling.factor", 4.0);
  EXPECT_EQ(value("rope_scaling"), JsonValue(JsonObject{{"rope_type", "linear"}, {"factor", 4.0}}));
  set("llama.rope.scaling.type", "yarn");
  set("llama.rope.scaling.original_context_length", 128);
  EXPECT_EQ(
      value("rope_scaling"),
      JsonValue(JsonObject{
          {"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 128}}));
  set("llama.rope.scaling.yarn_beta_fast", 16.0);
  set("llama.rope.scaling.yarn_beta_slow", 2.0);
  EXPECT_EQ(*value("rope_scaling").find("beta_fast"), JsonValue(16.0));
  EXPECT_EQ(*value("rope_scaling").find("beta_slow"), JsonValue(2.0));
  remove("llama.rope.scaling.type");
  remove("llama.rope.scaling.factor");
  set("llama.rope.scale_linear", 8.0);
  EXPECT_EQ(value("rope_scaling"), JsonValue(JsonObject{{"rope_type", "linear"}, {"factor", 8.0}}))
      << "the old key";
}

TEST_F(GgufConfig, RotaryScalingThatIsNotReadIsRefusedByName) {
  set("llama.rope.scaling.type", "longrope");
  EXPECT_THAT(refusal(), HasSubstr("llama.rope.scaling.type longrope is not supported"));
  set("llama.rope.scaling.type", "yarn");
  EXPECT_THAT(refusal(), HasSubstr("llama.rope.scaling.factor is missing"));
  remove("llama.rope.scaling.type");
  set("llama.rope.dimension_count", 8);
  EXPECT_THAT(refusal(), HasSubstr("partial rotary is not supported"));
}

TEST_F(GgufConfig, ValuesThatDifferFromTheirKeysAreRefused) {
  set("llama.attention.key_length", 16);
  set("llama.attention.value_length", 32);
  EXPECT_THAT(refusal(), HasSubstr("attention.value_length differs from attention.key_length"));
}

TEST_F(GgufConfig, ArithmeticThatIsNotComputedIsRefusedNeverIgnored) {
  const JsonObject all = metadata_.object();
  for (const char* key :
       {"expert_count", "attn_logit_softcapping", "final_logit_softcapping", "attention.clamp_kqv",
        "attention.max_alibi_bias", "attention.scale", "logit_scale", "embedding_scale",
        "residual_scale", "rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor",
        "rope.scaling.yarn_ext_factor", "rope.scaling.yarn_log_multiplier"}) {
    metadata_ = all;
    set(std::string("llama.") + key, 0);
    EXPECT_EQ(refusal(), "accepted") << key;
    set(std::string("llama.") + key, 8);
    EXPECT_THAT(refusal(), HasSubstr(std::string("llama.") + key)) << key;
  }
}

TEST_F(GgufConfig, EndsAreAllTokensThatEndSomething) {
  set("tokenizer.ggml.bos_token_id", 1);
  set("tokenizer.ggml.eos_token_id", 2);
  set("tokenizer.ggml.eot_token_id", 5);
  EXPECT_EQ(value("bos_token_id"), JsonValue(1));
  EXPECT_EQ(value("eos_token_id"), JsonValue(JsonArray{2, 5}));
  set("tokenizer.ggml.eos_token_id", "2");
  EXPECT_THAT(refusal(), HasSubstr("tokenizer.ggml.eos_token_id must be an integer"));
}

TEST_F(GgufConfig, NoHeadsAreNoCrash) {
  set("llama.attention.head_count", 0);
  EXPECT_EQ(value("num_attention_heads"), JsonValue(0)) << "the architecture's bounds refuse it";
}

TEST_F(GgufConfig, ANumberOfLayersThatIsNoIntegerIsRefusedWhereverItIsNeeded) {
  set("llama.attention.head_count_kv", JsonArray{JsonValue(2), JsonValue(2), JsonValue(2)});
  set("llama.block_count", std::numeric_limits<double>::quiet_NaN());
  EXPECT_THAT(refusal(), HasSubstr("llama.block_count must be an integer"));
  set("llama.attention.head_count", JsonArray{JsonValue(4), JsonValue(4), JsonValue(4)});
  EXPECT_THAT(refusal(), HasSubstr("llama.block_count must be an integer"));
}

}  // namespace
}  // namespace tidemill

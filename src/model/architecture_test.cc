#include "model/architecture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "kernels/kv_layout.h"

namespace tidemill {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

JsonValue parse(std::string_view text) {
  Result<JsonValue> value = parse_json(text, kFileJsonLimits);
  EXPECT_TRUE(value) << text;
  return value ? *value : JsonValue();
}

// A Llama of the first release, which says as little as possible.
JsonValue sparse_llama() {
  return parse(R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 64,
                   "intermediate_size": 176, "num_hidden_layers": 2, "num_attention_heads": 4,
                   "vocab_size": 431, "max_position_embeddings": 256})");
}

JsonValue with(JsonValue config, std::string_view key, std::string_view value) {
  config.set(key, parse(value));
  return config;
}

std::string refusal(const JsonValue& config) {
  try {
    read_architecture(config);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Architecture, WhatAConfigurationDoesNotSayHasTheFamilysDefault) {
  const Architecture a = read_architecture(sparse_llama());
  EXPECT_EQ(a.family, "llama");
  EXPECT_EQ(a.num_kv_heads, 4);
  EXPECT_EQ(a.head_dim, 16);
  EXPECT_EQ(a.rope.theta, 10000.0);
  EXPECT_EQ(a.rope.scaling, RopeScaling::kNone);
  EXPECT_FLOAT_EQ(a.norm_epsilon, 1e-6f);
  EXPECT_FALSE(a.tied_head);
  EXPECT_FALSE(a.qkv_bias || a.output_bias || a.mlp_bias || a.qk_norm);
  EXPECT_EQ(a.sliding_window, 0);
  EXPECT_EQ(a.bos_token_id, std::nullopt);
  EXPECT_THAT(a.eos_token_ids, IsEmpty());
}

TEST(Architecture, NullMeansAbsent) {
  JsonValue config = sparse_llama();
  for (const char* key : {"head_dim", "num_key_value_heads", "rope_scaling", "eos_token_id"}) {
    config.set(key, JsonValue());
  }
  EXPECT_EQ(to_json(read_architecture(config)), to_json(read_architecture(sparse_llama())));
}

TEST(Architecture, KeysOfOtherExportersAreUnderstood) {
  const Architecture a = read_architecture(parse(
      R"({"model_type": "llama", "n_embd": 64, "n_inner": 100, "n_layer": 3, "n_head": 4,
          "num_kv_heads": 2, "vocab_size": 431, "n_positions": 77, "layer_norm_epsilon": 1e-5})"));
  EXPECT_EQ(a.hidden_size, 64);
  EXPECT_EQ(a.intermediate_size, 100);
  EXPECT_EQ(a.num_layers, 3);
  EXPECT_EQ(a.num_kv_heads, 2);
  EXPECT_EQ(a.max_positions, 77);
  EXPECT_FLOAT_EQ(a.norm_epsilon, 1e-5f);
}

TEST(Architecture, EndIdsMayBeOneOrSeveralAndMinusOneIsNone) {
  EXPECT_THAT(read_architecture(with(sparse_llama(), "eos_token_id", "2")).eos_token_ids,
              ElementsAre(2));
  EXPECT_THAT(read_architecture(with(sparse_llama(), "eos_token_id", "[2, 3]")).eos_token_ids,
              ElementsAre(2, 3));
  EXPECT_THAT(read_architecture(with(sparse_llama(), "eos_token_id", "-1")).eos_token_ids,
              IsEmpty());
  EXPECT_THAT(refusal(with(sparse_llama(), "eos_token_id", "431")),
              HasSubstr("eos_token_id is 431; it must be a token id from 0 to 430"));
}

TEST(Architecture, FamiliesDifferInBiasesAndNorms) {
  const auto read = [](std::string_view family) {
    JsonValue config = with(sparse_llama(), "architectures", family);
    config.set("attention_bias", true);
    return read_architecture(config);
  };
  const Architecture llama = read(R"(["LlamaForCausalLM"])");
  EXPECT_TRUE(llama.qkv_bias && llama.output_bias && !llama.qk_norm);
  const Architecture qwen2 = read(R"(["Qwen2ForCausalLM"])");
  EXPECT_TRUE(qwen2.qkv_bias && !qwen2.output_bias && !qwen2.qk_norm);
  const Architecture qwen3 = read(R"(["Qwen3ForCausalLM"])");
  EXPECT_TRUE(qwen3.qkv_bias && qwen3.output_bias && qwen3.qk_norm);
  const Architecture mistral = read(R"(["MistralForCausalLM"])");
  EXPECT_FALSE(mistral.qkv_bias || mistral.output_bias || mistral.qk_norm);
}

TEST(Architecture, AWindowCountsOnlyWhereTheFamilyHasOne) {
  JsonValue config = with(sparse_llama(), "sliding_window", "32");
  EXPECT_EQ(read_architecture(config).sliding_window, 0);
  config = with(config, "architectures", R"(["MistralForCausalLM"])");
  EXPECT_EQ(read_architecture(config).sliding_window, 32);
  EXPECT_EQ(read_architecture(with(config, "sliding_window", "null")).sliding_window, 0);

  config = with(config, "architectures", R"(["Qwen2ForCausalLM"])");
  EXPECT_EQ(read_architecture(config).sliding_window, 0) << "use_sliding_window is false";
  config = with(config, "use_sliding_window", "true");
  EXPECT_EQ(read_architecture(with(config, "max_window_layers", "0")).sliding_window, 32);
  EXPECT_EQ(read_architecture(with(config, "max_window_layers", "2")).sliding_window, 0);
  EXPECT_THAT(refusal(with(config, "max_window_layers", "1")), HasSubstr("max_window_layers is 1"));
}

TEST(Architecture, WhereAWindowIsNotMentionedItIsTheOneThatTheFamilyHas) {
  JsonValue mistral = with(sparse_llama(), "architectures", R"(["MistralForCausalLM"])");
  EXPECT_EQ(read_architecture(mistral).sliding_window, 4096);

  JsonValue qwen = with(sparse_llama(), "architectures", R"(["Qwen2ForCausalLM"])");
  qwen = with(qwen, "use_sliding_window", "true");
  EXPECT_EQ(read_architecture(qwen).sliding_window, 0) << "from layer 28 on, and there are two";
  EXPECT_EQ(read_architecture(with(qwen, "max_window_layers", "0")).sliding_window, 4096);
  EXPECT_THAT(refusal(with(qwen, "num_hidden_layers", "29")),
              HasSubstr("max_window_layers is 28; it must be 0, or at least 29"));
}

TEST(Architecture, LayerTypesAreOnePerLayer) {
  EXPECT_EQ(refusal(with(sparse_llama(), "layer_types", R"(["full_attention", "full_attention"])")),
            "accepted");
  EXPECT_THAT(refusal(with(sparse_llama(), "layer_types", R"(["full_attention"])")),
              HasSubstr("layer_types has 1 entries, and there are 2 layers"));
}

TEST(Architecture, AHeadIsNoLargerThanTheKernelsHaveRoomFor) {
  JsonValue config = with(sparse_llama(), "head_dim", "256");
  EXPECT_EQ(read_architecture(config).head_dim, kMaxHeadDim);
  EXPECT_THAT(refusal(with(config, "head_dim", "257")), HasSubstr("head_dim is 257"));
  config = with(with(sparse_llama(), "hidden_size", "1032"), "num_attention_heads", "4");
  EXPECT_THAT(refusal(config), HasSubstr("the head size is 258; it must lie between 2 and 256"));
  Architecture compiled = read_architecture(sparse_llama());
  compiled.head_dim = 258;
  EXPECT_THROW(architecture_from_json(to_json(compiled)), std::runtime_error);
}

TEST(Architecture, FrequenciesThatAreNoFloatsAreRefused) {
  EXPECT_THAT(
      refusal(with(sparse_llama(), "rope_scaling", R"({"type": "linear", "factor": 1e-60})")),
      HasSubstr("give a frequency of inf"));
  EXPECT_EQ(refusal(with(sparse_llama(), "rope_scaling", R"({"type": "linear", "factor": 1e60})")),
            "accepted");
}

TEST(Architecture, LayersOfDifferentKindsAreRefused) {
  EXPECT_THAT(
      refusal(with(sparse_llama(), "layer_types", R"(["full_attention", "sliding_attention"])")),
      HasSubstr("layer_types is \"sliding_attention\""));
}

TEST(Architecture, UnsupportedSettingsAreRefusedByNameWithWhatIsAllowed) {
  EXPECT_THAT(refusal(with(sparse_llama(), "architectures", R"(["MixtralForCausalLM"])")),
              AllOf(HasSubstr("MixtralForCausalLM is not supported"),
                    HasSubstr("LlamaForCausalLM, MistralForCausalLM")));
  EXPECT_THAT(refusal(with(sparse_llama(), "hidden_act", R"("gelu")")),
              AllOf(HasSubstr("hidden_act is \"gelu\""), HasSubstr("silu")));
  EXPECT_THAT(refusal(with(sparse_llama(), "quantization_config", R"({"quant_method": "awq"})")),
              HasSubstr("quantization_config is an object"));
  EXPECT_THAT(refusal(with(sparse_llama(), "partial_rotary_factor", "0.5")),
              HasSubstr("partial_rotary_factor is 0.5"));
  EXPECT_THAT(refusal(with(sparse_llama(), "rotary_dim", "8")), HasSubstr("rotary_dim is 8"));
}

TEST(Architecture, SizesThatNoModelHasAreRefused) {
  struct Case {
    const char* key;
    const char* value;
  };
  for (const auto& [key, value] : {Case{"num_hidden_layers", "0"},
                                   {"num_hidden_layers", "1025"},
                                   {"hidden_size", "65537"},
                                   {"num_attention_heads", "-4"},
                                   {"head_dim", "257"},
                                   {"intermediate_size", "1048577"},
                                   {"vocab_size", "2097153"},
                                   {"vocab_size", "\"431\""},
                                   {"max_position_embeddings", "134217729"},
                                   {"hidden_size", "64.0"},
                                   {"num_key_value_heads", "8"}}) {
    EXPECT_THAT(refusal(with(sparse_llama(), key, value)),
                AllOf(HasSubstr(std::string(key) + " is " + value), HasSubstr("an integer from")));
  }
  EXPECT_THAT(refusal(with(sparse_llama(), "num_key_value_heads", "3")), HasSubstr("evenly"));
  EXPECT_THAT(refusal(with(sparse_llama(), "head_dim", "15")), HasSubstr("must be even"));
  EXPECT_THAT(refusal(with(sparse_llama(), "num_attention_heads", "5")),
              HasSubstr("not a multiple of"));
  EXPECT_THAT(refusal(with(sparse_llama(), "rms_norm_eps", "0")), HasSubstr("rms_norm_eps is 0"));
  EXPECT_THAT(refusal(with(sparse_llama(), "rope_theta", "0")), HasSubstr("rope_theta is 0"));
}

TEST(Architecture, AMissingSizeIsNamed) {
  EXPECT_THAT(refusal(parse(R"({"model_type": "llama"})")),
              HasSubstr("hidden_size or n_embd or n_embed or d_model is missing"));
  EXPECT_THAT(refusal(parse(R"({})")), HasSubstr("model_type is missing"));
  EXPECT_THAT(refusal(parse(R"([])")), HasSubstr("it must be a JSON object"));
}

TEST(Architecture, SurvivesTheManifest) {
  JsonValue config = with(sparse_llama(), "architectures", R"(["Qwen3ForCausalLM"])");
  config = with(config, "rope_scaling", R"({"rope_type": "yarn", "factor": 4.0, "mscale": 0.7,
                                            "original_max_position_embeddings": 64})");
  config = with(config, "eos_token_id", "[2, 3]");
  config = with(config, "bos_token_id", "1");
  Architecture original = read_architecture(config);
  original.rope.divisors = {1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 8.0};
  const JsonValue json = to_json(original);
  const Architecture copy = architecture_from_json(parse(to_json(json)));
  EXPECT_EQ(to_json(copy), json);
  EXPECT_EQ(copy.norm_epsilon, original.norm_epsilon);
  EXPECT_EQ(rope_frequencies(copy, 100), rope_frequencies(original, 100));
}

TEST(Architecture, ADamagedManifestIsRefused) {
  JsonValue json = to_json(read_architecture(sparse_llama()));
  json.set("num_heads", 1 << 20);
  EXPECT_THROW(architecture_from_json(json), std::runtime_error);
  json = to_json(read_architecture(sparse_llama()));
  json.find("rope")->set("divisors", parse("[1.0, 0.0]"));
  EXPECT_THROW(architecture_from_json(json), std::runtime_error);
}

}  // namespace
}  // namespace tidemill

// config.json: what is accepted is an architecture whose sizes multiply without overflow, whose
// engine can be laid out and planned, and which survives the manifest.
#include <cmath>
#include <stdexcept>

#include "base/fuzz_target.h"
#include "model/architecture.h"
#include "model/engine_dir.h"

namespace tidemill {
namespace {

constexpr int64_t kSmall = 4096;  // layers and frequencies that are looked at one by one

void check_layout(const Architecture& architecture) {
  if (architecture.num_layers > kSmall) return;
  for (const PackedFormat format : {PackedFormat::kF32, PackedFormat::kBf16}) {
    int64_t end = 0;
    for (const EngineTensor& tensor : engine_tensors(architecture, format)) {
      CHECK(tensor.offset >= end && tensor.bytes > 0, "{}: {} bytes at {}", tensor.name,
            tensor.bytes, tensor.offset);
      end = tensor.offset + tensor.bytes;
    }
  }
}

void check_rope(const Architecture& architecture) {
  for (const float frequency : rope_frequencies(architecture, architecture.max_positions)) {
    CHECK(std::isfinite(frequency), "a frequency is {}", frequency);
  }
  CHECK(std::isfinite(rope_attention_factor(architecture)), "the attention factor is no number");
}

}  // namespace

void fuzz_one(std::string_view input) {
  const auto json = parse_json(input, kFileJsonLimits);
  if (!json) return;
  try {
    architecture_from_json(*json);
  } catch (const std::runtime_error&) {
  }
  Architecture architecture;
  try {
    architecture = read_architecture(*json);
  } catch (const std::runtime_error& error) {
    CHECK(std::string_view(error.what()).size() > 10, "no reason: {}", error.what());
    return;
  }
  check_layout(architecture);
  check_rope(architecture);
  const JsonValue stored = to_json(architecture);
  CHECK(to_json(architecture_from_json(stored)) == stored, "the manifest reads differently");
}

std::vector<std::string> fuzz_seeds() {
  const std::string sizes =
      R"("hidden_size":64,"num_hidden_layers":2,"num_attention_heads":4,"intermediate_size":96,)"
      R"("vocab_size":431,"max_position_embeddings":256,"rms_norm_eps":1e-5,"hidden_act":"silu")";
  const auto config = [&](const char* kind, const char* more) {
    return format(R"({{"architectures":["{}"],{}{}}})", kind, sizes, more);
  };
  return {
      config("LlamaForCausalLM", ""),
      config("LlamaForCausalLM",
             R"(,"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,)"
             R"("high_freq_factor":4.0,"original_max_position_embeddings":64})"),
      config("LlamaForCausalLM",
             R"(,"rope_scaling":{"type":"yarn","factor":4.0,"beta_fast":32,"beta_slow":1,)"
             R"("mscale":1.0,"truncate":false,"original_max_position_embeddings":64})"),
      config("LlamaForCausalLM", R"(,"rope_scaling":{"type":"dynamic","factor":2.0})"),
      config("MistralForCausalLM", R"(,"sliding_window":32,"head_dim":24,"num_key_value_heads":1)"),
      config("Qwen2ForCausalLM", R"(,"use_sliding_window":false,"sliding_window":64)"),
      config("Qwen3ForCausalLM",
             R"(,"head_dim":32,"layer_types":["full_attention","full_attention"],)"
             R"("eos_token_id":[1,2],"bos_token_id":0,"tie_word_embeddings":true)"),
      R"({"hidden_size":1e999,"num_attention_heads":-1})"};
}

}  // namespace tidemill

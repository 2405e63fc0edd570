// For tests: a checkpoint folder that is made up on the spot and disappears with its object.
#pragma once

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/float16.h"
#include "base/json.h"

namespace tidemill {

// A folder under the system's temporary one, empty at first.
class TemporaryDir {
 public:
  TemporaryDir() {
    std::string name = (std::filesystem::temp_directory_path() / "tidemill-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  TemporaryDir(const TemporaryDir&) = delete;
  TemporaryDir& operator=(const TemporaryDir&) = delete;
  ~TemporaryDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

struct TestTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
  std::string dtype = "F32";  // another one of four bytes: what the header claims of the same bytes
};

// Tensors of a two-layer Llama with sizes that fill neither panels nor tiles, random but the same
// in every run: hidden 24, 3 heads of 8 on 1 key-value head, intermediate 20, vocabulary 17.
class TestCheckpoint {
 public:
  TestCheckpoint() {
    config = *parse_json(R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 24,
        "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 3,
        "num_key_value_heads": 1, "vocab_size": 17, "max_position_embeddings": 64,
        "eos_token_id": 2})");
    add("model.embed_tokens.weight", {17, 24});
    for (const char* layer : {"model.layers.0.", "model.layers.1."}) {
      const std::string prefix = layer;
      add(prefix + "input_layernorm.weight", {24});
      add(prefix + "self_attn.q_proj.weight", {24, 24});
      add(prefix + "self_attn.k_proj.weight", {8, 24});
      add(prefix + "self_attn.v_proj.weight", {8, 24});
      add(prefix + "self_attn.o_proj.weight", {24, 24});
      add(prefix + "post_attention_layernorm.weight", {24});
      add(prefix + "mlp.gate_proj.weight", {20, 24});
      add(prefix + "mlp.up_proj.weight", {20, 24});
      add(prefix + "mlp.down_proj.weight", {24, 20});
    }
    add("model.norm.weight", {24});
    add("lm_head.weight", {17, 24});
  }

  void add(const std::string& name, std::vector<int64_t> shape) {
    size_t count = 1;
    for (const int64_t size : shape) count *= static_cast<size_t>(size);
    TestTensor& tensor = tensors[name];
    tensor.shape = std::move(shape);
    tensor.values.resize(count);
    std::uniform_real_distribution<float> values(-1.0f, 1.0f);
    for (float& value : tensor.values) value = values(random_);
  }
  void remove(const std::string& name) { tensors.erase(name); }
  void rename(const std::string& from, const std::string& to) {
    tensors[to] = std::move(tensors.at(from));
    tensors.erase(from);
  }

  // Writes config.json and model.safetensors (f32).
  void write(const std::filesystem::path& dir) const {
    std::filesystem::create_directories(dir);
    std::ofstream(dir / "config.json") << to_json(config);
    JsonValue header = JsonObject{};
    std::string data;
    for (const auto& [name, tensor] : tensors) {
      const auto begin = static_cast<int64_t>(data.size());
      data.append(reinterpret_cast<const char*>(tensor.values.data()), tensor.values.size() * 4);
      header.set(name,
                 JsonObject{{"dtype", tensor.dtype},
                            {"shape", JsonArray(tensor.shape.begin(), tensor.shape.end())},
                            {"data_offsets", JsonArray{begin, static_cast<int64_t>(data.size())}}});
    }
    std::string text = to_json(header);
    text.resize((text.size() + 7) / 8 * 8, ' ');
    const uint64_t length = text.size();
    std::ofstream file(dir / "model.safetensors", std::ios::binary);
    file.write(reinterpret_cast<const char*>(&length), sizeof length);
    file << text << data;
  }

  JsonValue config;
  std::map<std::string, TestTensor> tensors;

 private:
  std::mt19937 random_{20240501};
};

}  // namespace tidemill

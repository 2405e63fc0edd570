// What only a GGUF file's tensors say about its network.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "compiler/test_checkpoint.h"
#include "compiler/weight_map.h"

namespace tidemill {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A GGUF of the same network as TestCheckpoint, with one layer; F32 where nothing else is said.
class TestGguf {
 public:
  TestGguf() {
    integers = {{"llama.embedding_length", 24},       {"llama.block_count", 1},
                {"llama.feed_forward_length", 20},    {"llama.attention.head_count", 3},
                {"llama.attention.head_count_kv", 1}, {"llama.context_length", 64}};
    shapes = {{"token_embd.weight", {17, 24}},   {"output_norm.weight", {24}},
              {"output.weight", {17, 24}},       {"blk.0.attn_norm.weight", {24}},
              {"blk.0.attn_q.weight", {24, 24}}, {"blk.0.attn_k.weight", {8, 24}},
              {"blk.0.attn_v.weight", {8, 24}},  {"blk.0.attn_output.weight", {24, 24}},
              {"blk.0.ffn_norm.weight", {24}},   {"blk.0.ffn_gate.weight", {20, 24}},
              {"blk.0.ffn_up.weight", {20, 24}}, {"blk.0.ffn_down.weight", {24, 20}}};
  }

  void write(const std::filesystem::path& path) const {
    std::string text = "GGUF";
    append<uint32_t>(text, 3);
    append<int64_t>(text, static_cast<int64_t>(shapes.size()));
    append<int64_t>(text, static_cast<int64_t>(integers.size()) + 2);
    append_key(text, "general.architecture", 8);
    append_string(text, "llama");
    append_key(text, "llama.attention.layer_norm_rms_epsilon", 6);
    append<float>(text, 1e-5f);
    for (const auto& [key, value] : integers) {
      append_key(text, key, 4);
      append<uint32_t>(text, value);
    }
    std::string data;
    for (const auto& [name, shape] : shapes) {
      append_string(text, name);
      append<uint32_t>(text, static_cast<uint32_t>(shape.size()));
      int64_t count = 1;
      for (size_t i = shape.size(); i-- > 0;) {  // fastest first
        append<int64_t>(text, shape[i]);
        count *= shape[i];
      }
      const bool is_q4_0 = q4_0.contains(name);
      append<int32_t>(text, is_q4_0 ? 2 : 0);
      append<uint64_t>(text, data.size());
      if (is_q4_0) {
        data.resize(data.size() + static_cast<size_t>(count / 32 * 18));
        pad(data);
        continue;
      }
      const auto value = values.find(name);
      for (int64_t i = 0; i < count; ++i) {
        append<float>(data, value != values.end() ? value->second : 1.0f + static_cast<float>(i));
      }
      pad(data);
    }
    pad(text);
    std::ofstream(path, std::ios::binary) << text << data;
  }

  std::map<std::string, uint32_t> integers;
  std::map<std::string, std::vector<int64_t>> shapes;
  std::map<std::string, float> values;  // of all elements; absent: 1, 2, 3 ...
  std::set<std::string> q4_0;           // zeros in blocks of that type

 private:
  template <typename T>
  static void append(std::string& text, T value) {
    text.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  static void append_string(std::string& text, std::string_view value) {
    append<uint64_t>(text, value.size());
    text += value;
  }
  static void append_key(std::string& text, std::string_view key, int32_t type) {
    append_string(text, key);
    append<int32_t>(text, type);
  }
  static void pad(std::string& text) { text.resize((text.size() + 31) / 32 * 32); }
};

class GgufWeightMap : public testing::Test {
 protected:
  const WeightMap& map() {
    const std::filesystem::path path = dir_.path() / "model.gguf";
    made_.write(path);
    checkpoint_.emplace(Checkpoint::open(path));
    map_ = map_weights(*checkpoint_, body_);
    return map_;
  }
  std::string refusal() {
    try {
      map();
    } catch (const CheckpointError& error) {
      return error.what();
    }
    return "accepted";
  }
  const MappedTensor& tensor(std::string_view name) const {
    return *std::ranges::find(map_.tensors, name,
                              [](const MappedTensor& mapped) { return mapped.target.name; });
  }

  TemporaryDir dir_;
  TestGguf made_;
  std::optional<PackedFormat> body_ = PackedFormat::kF32;
  std::optional<Checkpoint> checkpoint_;
  WeightMap map_;
};

TEST_F(GgufWeightMap, EveryTensorIsUsed) {
  EXPECT_THAT(map().unused, IsEmpty());
  EXPECT_FALSE(map_.architecture.tied_head);
  EXPECT_FALSE(map_.architecture.qkv_bias || map_.architecture.mlp_bias);
}

TEST_F(GgufWeightMap, RowsOfQAndKAreInterleavedAndThoseOfVAreNot) {
  map();
  const MappedTensor& qkv = tensor("layers.0.qkv");
  std::vector<int64_t> rows;
  for (int64_t channel = 8; channel < 16; ++channel) rows.push_back(source_of(qkv, channel).row);
  EXPECT_THAT(rows, ElementsAre(8, 10, 12, 14, 9, 11, 13, 15)) << "the second head of q";
  EXPECT_EQ(source_of(qkv, 24 + 1).row, 2) << "k";
  EXPECT_EQ(source_of(qkv, 32 + 1).row, 1) << "v";
}

TEST_F(GgufWeightMap, WithoutAnOutputTensorTheHeadIsTied) {
  made_.shapes.erase("output.weight");
  EXPECT_TRUE(map().architecture.tied_head);
}

TEST_F(GgufWeightMap, WithoutAFormatEveryTensorIsAsItIsStored) {
  constexpr PackedFormat kInt4{Numbers::kInt4, Offsets::kNone, 32};
  made_.integers["llama.feed_forward_length"] = 32;
  made_.shapes["blk.0.ffn_gate.weight"] = made_.shapes["blk.0.ffn_up.weight"] = {32, 24};
  made_.shapes["blk.0.ffn_down.weight"] = {24, 32};
  body_.reset();
  map();
  EXPECT_EQ(tensor("layers.0.down").target.format, PackedFormat::kBf16);
  EXPECT_EQ(tensor("head").target.format, PackedFormat::kBf16);

  made_.q4_0 = {"blk.0.ffn_down.weight"};
  map();
  EXPECT_EQ(tensor("layers.0.down").target.format, kInt4);
  EXPECT_EQ(tensor("layers.0.qkv").target.format, PackedFormat::kBf16);
  EXPECT_EQ(tensor("embedding").target.format, PackedFormat::kBf16);
  EXPECT_EQ(tensor("head").target.format, PackedFormat::kInt8PerChannel)
      << "of floats, under layers of integers";
  EXPECT_EQ(format_of_layers(targets_of(map_.tensors)), kInt4);

  body_ = PackedFormat::kBf16;
  map();
  EXPECT_EQ(tensor("layers.0.down").target.format, PackedFormat::kBf16) << "when it is asked for";
}

TEST_F(GgufWeightMap, BiasesAndHeadNormsAreThereWhenTheirTensorsAre) {
  made_.shapes["blk.0.attn_q.bias"] = {24};
  made_.shapes["blk.0.attn_k.bias"] = {8};
  made_.shapes["blk.0.attn_v.bias"] = {8};
  made_.shapes["blk.0.attn_q_norm.weight"] = {8};
  made_.shapes["blk.0.attn_k_norm.weight"] = {8};
  const Architecture architecture = map().architecture;
  EXPECT_TRUE(architecture.qkv_bias && architecture.qk_norm);
  EXPECT_FALSE(architecture.output_bias);
  EXPECT_EQ(source_of(tensor("layers.0.qkv_bias"), 1).row, 2) << "biases move with their rows";
  EXPECT_THAT(map_.unused, IsEmpty());
  made_.shapes.erase("blk.0.attn_v.bias");
  EXPECT_THAT(refusal(), HasSubstr("blk.0.attn_v.bias"));
}

TEST_F(GgufWeightMap, RotaryDivisorsBecomePartOfTheArchitecture) {
  made_.shapes["rope_freqs.weight"] = {4};
  EXPECT_THAT(map().architecture.rope.divisors, ElementsAre(1.0, 2.0, 3.0, 4.0));
  EXPECT_THAT(map_.unused, IsEmpty());
  made_.shapes["rope_freqs.weight"] = {8};
  EXPECT_THAT(refusal(), HasSubstr("rope_freqs.weight is [8] instead of [4]"));
}

TEST_F(GgufWeightMap, M_3_RotaryDivisorsThatNothingCanBeDividedByAreRefused) {
  made_.shapes["rope_freqs.weight"] = {4};
  for (const float value : {0.0f, -1.0f, INFINITY, NAN, 1e-45f}) {
    made_.values["rope_freqs.weight"] = value;
    EXPECT_THAT(refusal(), HasSubstr("rotary divisors must be finite and above 0")) << value;
  }
}

}  // namespace
}  // namespace tidemill

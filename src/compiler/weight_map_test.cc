#include "compiler/weight_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "compiler/test_checkpoint.h"

namespace tidemill {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// Owns the folder that the mapped tensors lie in.
struct Mapped {
  explicit Mapped(const TestCheckpoint& made) : checkpoint(open(made, folder.path())) {
    map = map_weights(checkpoint, PackedFormat::kF32);
  }
  static Checkpoint open(const TestCheckpoint& made, const std::filesystem::path& dir) {
    made.write(dir);
    return Checkpoint::open(dir);
  }
  const MappedTensor& tensor(std::string_view name) const {
    for (const MappedTensor& tensor : map.tensors) {
      if (tensor.target.name == name) return tensor;
    }
    throw std::out_of_range(std::string(name));
  }
  std::vector<std::string> sources(std::string_view name) const {
    std::vector<std::string> names;
    for (const TensorPart& part : tensor(name).parts) names.push_back(part.stored->name);
    return names;
  }

  TemporaryDir folder;
  Checkpoint checkpoint;
  WeightMap map;
};

std::string refusal(const TestCheckpoint& made) {
  try {
    const Mapped mapped(made);
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(WeightMap, EveryTensorOfTheEngineHasItsSources) {
  const Mapped mapped{TestCheckpoint()};
  EXPECT_EQ(mapped.map.tensors.size(),
            engine_tensors(mapped.map.architecture, PackedFormat::kF32).size());
  EXPECT_THAT(mapped.sources("layers.1.qkv"),
              ElementsAre("model.layers.1.self_attn.q_proj.weight",
                          "model.layers.1.self_attn.k_proj.weight",
                          "model.layers.1.self_attn.v_proj.weight"));
  EXPECT_THAT(mapped.sources("layers.0.gate_up"), ElementsAre("model.layers.0.mlp.gate_proj.weight",
                                                              "model.layers.0.mlp.up_proj.weight"));
  EXPECT_THAT(mapped.sources("head"), ElementsAre("lm_head.weight"));
  EXPECT_THAT(mapped.map.unused, IsEmpty());
}

TEST(WeightMap, QkvIsStackedAndGateUpAlternatesByPanels) {
  const Mapped mapped{TestCheckpoint()};
  const MappedTensor& qkv = mapped.tensor("layers.0.qkv");
  EXPECT_EQ(source_of(qkv, 0).row, 0);
  EXPECT_EQ(source_of(qkv, 23).part, &qkv.parts[0]);
  EXPECT_EQ(source_of(qkv, 24).part, &qkv.parts[1]);
  EXPECT_EQ(source_of(qkv, 24).row, 0);
  EXPECT_EQ(source_of(qkv, 39).part, &qkv.parts[2]);
  EXPECT_EQ(source_of(qkv, 39).row, 7);

  const MappedTensor& gate_up = mapped.tensor("layers.0.gate_up");
  EXPECT_EQ(source_of(gate_up, 15).part, &gate_up.parts[0]);
  EXPECT_EQ(source_of(gate_up, 16).part, &gate_up.parts[1]);
  EXPECT_EQ(source_of(gate_up, 16).row, 0);
  EXPECT_EQ(source_of(gate_up, 32).part, &gate_up.parts[0]);
  EXPECT_EQ(source_of(gate_up, 35).row, 19);
  EXPECT_EQ(source_of(gate_up, 36).part, nullptr) << "gate has 20 rows: the rest is padding";
  EXPECT_EQ(source_of(gate_up, 51).row, 19);
  EXPECT_EQ(source_of(gate_up, 52).part, nullptr);
}

TEST(WeightMap, InterleavedRowsComeBackHalfByHalf) {
  const StoredTensor stored{};
  const MappedTensor tensor{
      .target = {},
      .parts = {{.stored = &stored, .rows = 16, .columns = 4, .interleaved_head_dim = 8}}};
  std::vector<int64_t> rows;
  for (int64_t channel = 0; channel < 16; ++channel) rows.push_back(source_of(tensor, channel).row);
  EXPECT_THAT(rows, ElementsAre(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15));
}

TEST(WeightMap, ExportsWithoutThePrefixAreUnderstood) {
  TestCheckpoint bare;
  for (const auto& [name, tensor] : TestCheckpoint().tensors) {
    if (name.starts_with("model.")) bare.rename(name, name.substr(6));
  }
  EXPECT_THAT(Mapped(bare).sources("layers.1.down"), ElementsAre("layers.1.mlp.down_proj.weight"));
}

TEST(WeightMap, ATiedHeadNeedsNoTensorAndACopyOfItIsNoSurprise) {
  TestCheckpoint tied;
  tied.config.set("tie_word_embeddings", true);
  EXPECT_THAT(Mapped(tied).map.unused, IsEmpty());
  tied.remove("lm_head.weight");
  EXPECT_EQ(Mapped(tied).map.tensors.back().target.name, "final_norm");
}

TEST(WeightMap, AVocabularyMayBePadded) {
  TestCheckpoint padded;
  padded.add("model.embed_tokens.weight", {32, 24});
  padded.add("lm_head.weight", {32, 24});
  const Mapped mapped(padded);
  EXPECT_EQ(mapped.tensor("embedding").target.n, 17);
  padded.add("lm_head.weight", {16, 24});
  EXPECT_THAT(refusal(padded), HasSubstr("lm_head.weight is [16, 24] instead of [17, 24]"));
}

TEST(WeightMap, M_3_EverythingThatIsMissingOrMisshapenIsListedAtOnce) {
  TestCheckpoint broken;
  broken.remove("model.layers.1.mlp.up_proj.weight");
  broken.remove("model.norm.weight");
  broken.add("model.layers.0.self_attn.k_proj.weight", {24, 24});
  broken.add("model.layers.0.input_layernorm.weight", {1, 24});
  EXPECT_THAT(
      refusal(broken),
      AllOf(HasSubstr("2 tensors are missing"), HasSubstr("model.layers.1.mlp.up_proj.weight"),
            HasSubstr("model.norm.weight"), HasSubstr("2 tensors do not fit"),
            HasSubstr("k_proj.weight is [24, 24] instead of [8, 24]"),
            HasSubstr("input_layernorm.weight is [1, 24] instead of [24]")));
}

TEST(WeightMap, M_3_ATypeThatIsNoWeightIsRefusedWhereOneIsNeeded) {
  TestCheckpoint broken;
  broken.tensors.at("model.layers.0.mlp.down_proj.weight").dtype = "I32";
  broken.tensors.at("model.norm.weight").dtype = "U32";
  EXPECT_THAT(
      refusal(broken),
      AllOf(HasSubstr("2 tensors do not fit"),
            HasSubstr("model.layers.0.mlp.down_proj.weight holds I32, which cannot be read"),
            HasSubstr("model.norm.weight holds U32, which cannot be read")));
}

TEST(WeightMap, ATypeThatNobodyReadsMayLieBesideTheNetwork) {
  TestCheckpoint more;
  more.add("extra.scales", {2});
  for (const char* dtype : {"C64", "F8_E8M0", "F4"}) {
    more.tensors.at("extra.scales").shape = {std::string_view(dtype) == "C64"  ? 1
                                             : std::string_view(dtype) == "F4" ? 16
                                                                               : 8};
    more.tensors.at("extra.scales").dtype = dtype;
    EXPECT_THAT(Mapped(more).map.unused, ElementsAre("extra.scales")) << dtype;
  }
}

TEST(WeightMap, BiasesAreAskedForExactlyWhenTheArchitectureHasThem) {
  TestCheckpoint with_bias;
  with_bias.config.set("mlp_bias", true);
  EXPECT_THAT(refusal(with_bias), HasSubstr("6 tensors are missing"));
  for (const std::string prefix : {"model.layers.0.mlp.", "model.layers.1.mlp."}) {
    with_bias.add(prefix + "gate_proj.bias", {20});
    with_bias.add(prefix + "up_proj.bias", {20});
    with_bias.add(prefix + "down_proj.bias", {24});
  }
  EXPECT_THAT(Mapped(with_bias).sources("layers.1.gate_up_bias"),
              ElementsAre("model.layers.1.mlp.gate_proj.bias", "model.layers.1.mlp.up_proj.bias"));
}

TEST(WeightMap, WhatIsNotPartOfTheNetworkIsListedButForKnownBuffers) {
  TestCheckpoint more;
  more.add("model.layers.0.self_attn.rotary_emb.inv_freq", {4});
  more.add("visual.patch_embed.weight", {3, 3});
  EXPECT_THAT(Mapped(more).map.unused, ElementsAre("visual.patch_embed.weight"));
}

}  // namespace
}  // namespace tidemill

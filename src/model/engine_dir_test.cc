#include "model/engine_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "base/digest.h"
#include "kernels/select.h"
#include "model/load.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

Architecture small_llama() {
  Architecture a;
  a.family = "llama";
  a.hidden_size = 24;
  a.num_layers = 2;
  a.num_heads = 3;
  a.num_kv_heads = 1;
  a.head_dim = 8;
  a.intermediate_size = 20;
  a.vocab_size = 17;
  a.max_positions = 64;
  return a;
}

// A complete engine of zeros in a fresh folder, which disappears with it.
class EngineDir : public testing::Test {
 protected:
  EngineDir()
      : dir_(fs::temp_directory_path() /
             ("tidemill-engine-" + std::to_string(::getpid()) + "-" +
              testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
    manifest_.architecture = small_llama();
    write();
  }
  ~EngineDir() override { fs::remove_all(dir_); }

  void write() {
    manifest_.tensors = engine_tensors(manifest_.architecture, manifest_.format);
    const std::string zeros(static_cast<size_t>(weights_file_bytes(manifest_.tensors)), '\0');
    std::ofstream(dir_ / kWeightsFileName, std::ios::binary) << zeros;
    manifest_.weights_digest = sha256_of(zeros);
    write(TextFiles{.tokenizer_json = {},
                    .chat_template = {},
                    .special_tokens = JsonObject{},
                    .generation_defaults = JsonObject{}});
  }
  void write(const TextFiles& files) {
    manifest_.text_digests = write_text_files(dir_, files);
    write_manifest(dir_, manifest_);
  }
  // A manifest that says something else, with the digest that belongs to it.
  void rewrite_manifest(const JsonValue& json) {
    JsonObject members = json.object();
    members.pop_back();
    JsonValue sealed = members;
    sealed.set("digest", sha256_of(to_json(sealed)));
    std::ofstream(dir_ / kManifestFileName) << to_json(sealed);
  }
  std::string refusal() {
    try {
      const Model model(dir_);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "accepted";
  }

  const fs::path dir_;
  Manifest manifest_;
};

TEST_F(EngineDir, TensorsFollowOneAnotherOnPageBoundaries) {
  int64_t end = 0;
  for (const EngineTensor& tensor : manifest_.tensors) {
    EXPECT_EQ(tensor.offset % kWeightAlignment, 0) << tensor.name;
    EXPECT_GE(tensor.offset, end) << tensor.name;
    EXPECT_LT(tensor.offset, end + kWeightAlignment) << tensor.name;
    end = tensor.offset + tensor.bytes;
  }
  EXPECT_EQ(weights_file_bytes(manifest_.tensors) % kWeightAlignment, 0);
}

TEST_F(EngineDir, OptionalTensorsAreThereExactlyWhenTheArchitectureHasThem) {
  const auto names = [](const Architecture& a) {
    std::vector<std::string> list;
    for (const EngineTensor& tensor : engine_tensors(a, PackedFormat::kF32)) {
      list.push_back(tensor.name);
    }
    return list;
  };
  Architecture a = small_llama();
  a.num_layers = 1;
  EXPECT_THAT(names(a),
              testing::ElementsAre("embedding", "layers.0.attention_norm", "layers.0.qkv",
                                   "layers.0.output", "layers.0.mlp_norm", "layers.0.gate_up",
                                   "layers.0.down", "final_norm", "head"));
  a.tied_head = a.qkv_bias = a.output_bias = a.mlp_bias = a.qk_norm = true;
  EXPECT_THAT(names(a),
              testing::ElementsAre("embedding", "layers.0.attention_norm", "layers.0.qkv",
                                   "layers.0.qkv_bias", "layers.0.q_norm", "layers.0.k_norm",
                                   "layers.0.output", "layers.0.output_bias", "layers.0.mlp_norm",
                                   "layers.0.gate_up", "layers.0.gate_up_bias", "layers.0.down",
                                   "layers.0.down_bias", "final_norm"));
}

TEST_F(EngineDir, WhatIsWrittenIsReadBack) {
  const Manifest copy = read_manifest(dir_);
  EXPECT_EQ(to_json(copy), to_json(manifest_));
  EXPECT_EQ(copy.tensors, manifest_.tensors);
}

TEST_F(EngineDir, TextFilesAreReadBack) {
  TextFiles files{.tokenizer_json = R"({"version": "1.0"})",
                  .chat_template = "{{ messages }}\n",
                  .special_tokens = JsonObject{{"bos_token", "<s>"}},
                  .generation_defaults = JsonObject{{"temperature", 0.6}}};
  write(files);
  const TextFiles copy = read_text_files(dir_);
  EXPECT_EQ(copy.tokenizer_json, files.tokenizer_json);
  EXPECT_EQ(copy.chat_template, files.chat_template);
  EXPECT_EQ(copy.special_tokens, files.special_tokens);
  EXPECT_EQ(copy.generation_defaults, files.generation_defaults);
}

TEST_F(EngineDir, ACheckpointWithoutTokenizerHasNoneHere) {
  const TextFiles copy = read_text_files(dir_);
  EXPECT_EQ(copy.tokenizer_json, std::nullopt);
  EXPECT_EQ(copy.chat_template, std::nullopt);
}

TEST_F(EngineDir, BindsEveryTensorOfItsLayers) {
  manifest_.architecture.qk_norm = manifest_.architecture.qkv_bias = true;
  write();
  const Model model(dir_);
  ASSERT_EQ(model.layers().size(), 2u);
  const LayerWeights& layer = model.layers()[1];
  EXPECT_EQ(layer.qkv.n, (3 + 2) * 8);
  EXPECT_EQ(layer.qkv.k, 24);
  EXPECT_NE(layer.qkv_bias, nullptr);
  EXPECT_NE(layer.q_norm, nullptr);
  EXPECT_EQ(layer.output_bias, nullptr);
  EXPECT_EQ(layer.gate_up.n, 64) << "20 channels take two panels each of gate and up";
  EXPECT_EQ(layer.down.k, 32);
  EXPECT_EQ(model.head().n, 17);
  EXPECT_NE(model.head().data, model.embedding().data);
}

TEST_F(EngineDir, ACopyOfTheWeightsHasTheirBytesAndNeedsTheFileNoMore) {
  manifest_.architecture.qkv_bias = true;
  write();
  Model copied(dir_);
  WorkerPool workers({.num_threads = 3});
  copied.copy_weights(select_kernels("reference"), workers);
  fs::resize_file(dir_ / kWeightsFileName, 4096);
  write();
  const Model again(dir_);
  const auto same = [](const PackedWeight& a, const PackedWeight& b) {
    return a.data != b.data && a.n == b.n &&
           std::memcmp(a.data, b.data, packed_bytes(a.format, a.n, a.k)) == 0;
  };
  ASSERT_EQ(copied.layers().size(), again.layers().size());
  for (size_t i = 0; i < again.layers().size(); ++i) {
    const LayerWeights& a = copied.layers()[i];
    const LayerWeights& b = again.layers()[i];
    EXPECT_TRUE(same(a.qkv, b.qkv) && same(a.output, b.output) && same(a.gate_up, b.gate_up) &&
                same(a.down, b.down));
    EXPECT_EQ(std::memcmp(a.qkv_bias, b.qkv_bias, a.qkv.n * sizeof(float)), 0);
  }
  EXPECT_TRUE(same(copied.embedding(), again.embedding()) && same(copied.head(), again.head()));
  EXPECT_EQ(copied.weight_bytes(), again.weight_bytes());
  EXPECT_FALSE(copied.has_failed());
}

TEST_F(EngineDir, ACopyOfWeightsThatCannotBeReadIsRefused) {
  Model model(dir_);
  WorkerPool workers({.num_threads = 2});
  fs::resize_file(dir_ / kWeightsFileName, 0);
  EXPECT_THROW(model.copy_weights(select_kernels("reference"), workers), std::runtime_error);
}

TEST_F(EngineDir, ATiedHeadIsTheEmbedding) {
  manifest_.architecture.tied_head = true;
  write();
  const Model model(dir_);
  EXPECT_EQ(model.head().data, model.embedding().data);
}

TEST_F(EngineDir, F32EnginesComputeInF32) {
  EXPECT_EQ(Model(dir_).compute_types().floats, DType::kBf16);
  manifest_.format = PackedFormat::kF32;
  write();
  EXPECT_EQ(Model(dir_).compute_types().floats, DType::kF32);
}

TEST_F(EngineDir, InputsOfIntegersHaveTheBitsThatWereAskedFor) {
  EXPECT_EQ(Model(dir_, {.activation_bits = 16}).compute_types().integer_parts, 0) << "no integers";
  manifest_.format = {Numbers::kInt8, Offsets::kNone, 32};
  write();
  const Model eight(dir_);
  EXPECT_EQ(eight.compute_types().integer_parts, 1);
  EXPECT_EQ(eight.layers()[0].down.input_parts, 1);
  EXPECT_EQ(eight.head().input_parts, 2);
  const Model sixteen(dir_, {.activation_bits = 16});
  EXPECT_EQ(sixteen.compute_types().integer_parts, 2);
  EXPECT_EQ(sixteen.layers()[0].down.input_parts, 2);
}

TEST_F(EngineDir, AFolderWithoutManifestIsNoEngine) {
  fs::remove(dir_ / kManifestFileName);
  EXPECT_FALSE(is_engine_dir(dir_));
  EXPECT_THAT(refusal(), AllOf(HasSubstr("not an engine directory"), HasSubstr("compile")));
}

TEST_F(EngineDir, X_3_AnotherVersionIsRefusedWithTheWayOut) {
  JsonValue json = to_json(manifest_);
  json.set("version", kEngineVersion + 1);
  rewrite_manifest(json);
  EXPECT_THAT(refusal(),
              AllOf(HasSubstr(format("version is {}", kEngineVersion + 1)), HasSubstr("Compile")));
  json.set("version", kEngineVersion);
  json.set("layout_family", "cuda");
  rewrite_manifest(json);
  EXPECT_THAT(refusal(), AllOf(HasSubstr("packed for cuda"), HasSubstr("Compile")));
}

TEST_F(EngineDir, ATensorThatLiesElsewhereIsRefused) {
  JsonValue json = to_json(manifest_);
  json.find("tensors")->array()[3].set("offset", int64_t{1} << 40);
  rewrite_manifest(json);
  EXPECT_THAT(refusal(), AllOf(HasSubstr("damaged"), HasSubstr(manifest_.tensors[3].name)));
}

TEST_F(EngineDir, AMissingTensorIsRefused) {
  JsonValue json = to_json(manifest_);
  json.find("tensors")->array().pop_back();
  rewrite_manifest(json);
  EXPECT_THAT(refusal(), HasSubstr("tensor head"));
}

TEST_F(EngineDir, ATruncatedFileIsRefused) {
  fs::resize_file(dir_ / kWeightsFileName, 4096);
  EXPECT_THAT(refusal(), HasSubstr("has 4096 bytes instead of"));
}

TEST_F(EngineDir, X_3_AFlippedBitIsFoundWhenContentsAreChecked) {
  std::fstream file(dir_ / kWeightsFileName, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(5000);
  file.put('\1');
  file.close();
  EXPECT_EQ(refusal(), "accepted");
  EXPECT_THROW(check_weights(manifest_, dir_), DamagedEngine);
}

std::string file_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST_F(EngineDir, X_3_AFlippedBitOfAnyByteOfTheManifestNeverChangesWhatItSays) {
  const std::string whole = file_text(dir_ / kManifestFileName);
  const JsonValue said = to_json(manifest_);
  int refused = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string flipped = whole;
    flipped[i] ^= static_cast<char>(1 << (i % 7));
    std::ofstream(dir_ / kManifestFileName, std::ios::binary) << flipped;
    try {
      ASSERT_EQ(to_json(read_manifest(dir_)), said) << "byte " << i;
    } catch (const std::runtime_error&) {
      ++refused;
    }
  }
  EXPECT_GE(refused, static_cast<int>(whole.size()) - 1) << "the line's end may be another blank";
}

TEST_F(EngineDir, X_3_ADigitOfThetaIsNotReadWrong) {
  std::string text = file_text(dir_ / kManifestFileName);
  const size_t at = text.find("\"theta\":1");
  ASSERT_NE(at, std::string::npos);
  text[at + 8] = '7';
  std::ofstream(dir_ / kManifestFileName, std::ios::binary) << text;
  EXPECT_THROW(Model{dir_}, DamagedEngine);
  EXPECT_THAT(refusal(), AllOf(HasSubstr("damaged engine"), HasSubstr("Compile")));
}

TEST_F(EngineDir, X_3_TextFilesThatAreNotItsOwnAreRefused) {
  write(TextFiles{.tokenizer_json = R"({"version": "1.0"})",
                  .chat_template = "{{ messages }}",
                  .special_tokens = JsonObject{},
                  .generation_defaults = JsonObject{}});
  for (const char* name : {kTextFileName, kTokenizerFileName}) {
    const std::string whole = file_text(dir_ / name);
    std::string flipped = whole;
    flipped[3] ^= 1;
    std::ofstream(dir_ / name, std::ios::binary) << flipped;
    EXPECT_THROW(read_text_files(dir_), DamagedEngine) << name;
    fs::remove(dir_ / name);
    EXPECT_THROW(read_text_files(dir_), DamagedEngine) << name;
    std::ofstream(dir_ / name, std::ios::binary) << whole;
    EXPECT_NO_THROW(read_text_files(dir_)) << name;
  }
  manifest_.text_digests.erase(kTokenizerFileName);
  write_manifest(dir_, manifest_);
  EXPECT_THROW(read_text_files(dir_), DamagedEngine) << "a tokenizer that somebody added";
}

TEST_F(EngineDir, TruncatedJsonIsRefusedWithTheFilesName) {
  std::ofstream(dir_ / kManifestFileName) << R"({"version": 1, )";
  EXPECT_THAT(refusal(), HasSubstr("engine.json"));
}

}  // namespace
}  // namespace tidemill

#include "checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>

#include "checkpoint/test_files.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;
using testing::UnorderedElementsAre;

constexpr const char* kConfig = R"({"architectures": ["LlamaForCausalLM"]})";

fs::path tiny(const char* name) { return fs::path(TIDEMILL_SOURCE_DIR) / "tests/data/tiny" / name; }

// A file with one tensor of two bytes.
std::string one_tensor(std::string_view name) {
  return safetensors_file(
      format(R"({{"{}":{{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}}})", name), "xy");
}

class OpenFolder : public testing::Test {
 protected:
  OpenFolder() { folder_.write("config.json", kConfig); }

  void write(std::string_view name, std::string_view text) const { folder_.write(name, text); }
  void index(std::string_view weight_map) const {
    write("model.safetensors.index.json", format(R"({{"weight_map":{}}})", weight_map));
  }
  Checkpoint open() const { return Checkpoint::open(folder_.path()); }
  std::string refusal() const {
    return refusal_of([&] { open(); });
  }
  std::vector<std::string> source_names() const {
    std::vector<std::string> names;
    for (const FileIdentity& file : open().sources()) {
      names.push_back(fs::path(file.path).filename().string());
    }
    return names;
  }

  ScratchFolder folder_;
};

TEST_F(OpenFolder, M_2_AFileThatShrinksAfterItWasOpenedIsAnError) {
  write("model.safetensors",
        safetensors_file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "1234"));
  const Checkpoint checkpoint = open();
  fs::resize_file(folder_.path() / "model.safetensors", 20);
  float value = 0.0f;
  EXPECT_THAT(refusal_of([&] { read_rows(*checkpoint.find("a"), 0, 1, &value); }),
              AllOf(HasSubstr("model.safetensors: at byte"), HasSubstr("cut off")));
}

TEST_F(OpenFolder, AFileThatIsWrittenReplacedAddedOrRemovedSinceIsNoticed) {
  write("model.safetensors", one_tensor("a"));
  write("tokenizer.json", "{}");
  write("new", "{}");
  const auto notices = [&](const std::function<void()>& change) {
    const Checkpoint checkpoint = open();
    checkpoint.check_unchanged();
    change();
    return refusal_of([&] { checkpoint.check_unchanged(); });
  };
  const fs::path dir = folder_.path();
  EXPECT_THAT(notices([&] { write("model.safetensors", one_tensor("abc")); }),
              HasSubstr("model.safetensors: was written or replaced"));
  EXPECT_THAT(notices([&] { fs::rename(dir / "new", dir / "tokenizer.json"); }),
              HasSubstr("tokenizer.json: was written or replaced"));
  EXPECT_THAT(notices([&] { write("chat_template.jinja", "x"); }), HasSubstr("a file came in"));
  EXPECT_THAT(notices([&] { fs::remove(dir / "tokenizer.json"); }),
              HasSubstr("tokenizer.json: was written or replaced"));
}

TEST_F(OpenFolder, GivesConfigurationAndTensorsByName) {
  write("model.safetensors", one_tensor("a"));
  write("generation_config.json", R"({"temperature": 0.5})");
  const Checkpoint checkpoint = open();
  EXPECT_EQ(checkpoint.format(), CheckpointFormat::kHuggingFace);
  EXPECT_EQ(checkpoint.path(), folder_.path());
  EXPECT_TRUE(checkpoint.config().find("architectures") != nullptr);
  EXPECT_EQ(checkpoint.generation_config().find("temperature")->number(), 0.5);
  EXPECT_TRUE(checkpoint.gguf_metadata().is_null());
  EXPECT_THAT(checkpoint.tensors(), SizeIs(1));
  ASSERT_NE(checkpoint.find("a"), nullptr);
  EXPECT_EQ(checkpoint.find("a")->bytes, 2u);
  EXPECT_EQ(checkpoint.find("b"), nullptr);
}

TEST_F(OpenFolder, TheOnlySafetensorsCountsWhateverItsName) {
  write("gptq_model.safetensors", one_tensor("a"));
  EXPECT_NE(open().find("a"), nullptr);
  EXPECT_TRUE(open().generation_config().is_null());
}

TEST_F(OpenFolder, AnIndexIsAuthoritative) {
  index(R"({"a": "1.safetensors", "b": "2.safetensors"})");
  write("1.safetensors", one_tensor("a"));
  write("2.safetensors", one_tensor("b"));
  write("consolidated.safetensors", one_tensor("a"));
  write("model.safetensors", "not read");
  EXPECT_THAT(open().tensors(), SizeIs(2));
  EXPECT_THAT(source_names(),
              UnorderedElementsAre("1.safetensors", "2.safetensors", "config.json"));
}

TEST_F(OpenFolder, AnIndexThatNamesWhatIsNotThereIsRefused) {
  index(R"({"a": "1.safetensors", "b": "2.safetensors"})");
  write("1.safetensors", one_tensor("a"));
  EXPECT_THAT(refusal(), AllOf(HasSubstr("model.safetensors.index.json names 2.safetensors"),
                               HasSubstr("Is the download complete?")));
  write("2.safetensors", one_tensor("c"));
  EXPECT_THAT(refusal(), HasSubstr("2.safetensors holds tensor \"b\", which it does not"));
  index(R"({"a": "2.safetensors", "c": "1.safetensors"})");
  EXPECT_THAT(refusal(), HasSubstr("holds tensor"));
}

TEST_F(OpenFolder, ATensorInTwoShardsIsRefused) {
  index(R"({"a": "1.safetensors", "b": "2.safetensors"})");
  write("1.safetensors", one_tensor("a"));
  write("2.safetensors", one_tensor("a"));
  EXPECT_THAT(refusal(), HasSubstr("tensor \"a\" stands in another file, too"));
}

TEST_F(OpenFolder, M_6_ALinkedShardMayNotLeadOutOfTheFolder) {
  const ScratchFolder elsewhere;
  elsewhere.write("1.safetensors", one_tensor("a"));
  index(R"({"a": "1.safetensors"})");
  fs::create_symlink(elsewhere.path() / "1.safetensors", folder_.path() / "1.safetensors");
  EXPECT_THAT(refusal(), HasSubstr("1.safetensors is a link to a file outside"));
  fs::remove(folder_.path() / "1.safetensors");
  write("real.safetensors", one_tensor("a"));
  fs::create_symlink("real.safetensors", folder_.path() / "1.safetensors");
  EXPECT_NE(open().find("a"), nullptr);
}

TEST(OpenSnapshot, ALinkIntoTheBlobsOfItsOwnCacheIsFollowed) {
  const ScratchFolder cache;
  cache.write("models--x--y/blobs/abc", one_tensor("a"));
  cache.write("models--x--y/snapshots/1/config.json", kConfig);
  cache.write("models--x--y/snapshots/1/model.safetensors.index.json",
              R"({"weight_map":{"a":"1.safetensors"}})");
  const fs::path snapshot = cache.path() / "models--x--y/snapshots/1";
  fs::create_symlink("../../blobs/abc", snapshot / "1.safetensors");
  EXPECT_NE(Checkpoint::open(snapshot).find("a"), nullptr);
  fs::remove(snapshot / "1.safetensors");
  cache.write("models--z--z/blobs/abc", one_tensor("a"));
  fs::create_symlink("../../../models--z--z/blobs/abc", snapshot / "1.safetensors");
  EXPECT_THAT(refusal_of([&] { Checkpoint::open(snapshot); }), HasSubstr("is a link to a file"));
}

TEST_F(OpenFolder, SideFilesAreReadWithinTheirBounds) {
  write("model.safetensors", one_tensor("a"));
  write("chat_template.jinja", "{{ x }}");
  write("tokenizer.json", std::string((4 << 20) + 1, ' '));
  const Checkpoint checkpoint = open();
  EXPECT_EQ(checkpoint.side_file("chat_template.jinja"), "{{ x }}");
  EXPECT_EQ(checkpoint.side_file("absent"), std::nullopt);
  EXPECT_THAT(*checkpoint.side_file("tokenizer.json"), SizeIs((4 << 20) + 1));
  write("chat_template.jinja", std::string((4 << 20) + 1, ' '));
  EXPECT_THAT(refusal_of([&] { checkpoint.side_file("chat_template.jinja"); }),
              HasSubstr("chat_template.jinja has 4194305 bytes; 4194304 are allowed"));
}

TEST_F(OpenFolder, EveryFileThatDecidesTheEngineIsASource) {
  for (const char* name :
       {"generation_config.json", "tokenizer_config.json", "special_tokens_map.json"}) {
    write(name, "{}");
  }
  write("tokenizer.json", "{}");
  write("chat_template.jinja", "");
  write("README.md", "");
  write("model.safetensors", one_tensor("a"));
  EXPECT_THAT(source_names(),
              UnorderedElementsAre("model.safetensors", "config.json", "generation_config.json",
                                   "tokenizer.json", "tokenizer_config.json",
                                   "special_tokens_map.json", "chat_template.jinja"));
}

TEST_F(OpenFolder, AFolderWhereAFileShouldBeIsRefused) {
  write("model.safetensors/x", "");
  EXPECT_THAT(refusal(), HasSubstr("model.safetensors must be a file"));
  write("model.safetensors.index.json/x", "");
  EXPECT_THAT(refusal(), HasSubstr("model.safetensors.index.json must be a file"));
}

TEST_F(OpenFolder, RandomDamageToAnyFileIsReadOrRefused) {
  const std::vector<std::pair<std::string, std::string>> files = {
      {"config.json", kConfig},
      {"generation_config.json", R"({"temperature": 0.5})"},
      {"model.safetensors.index.json",
       R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})"},
      {"1.safetensors", one_tensor("a")},
      {"2.safetensors", one_tensor("b")}};
  for (const auto& [name, text] : files) write(name, text);
  std::mt19937 random(6);
  int refused = 0;
  for (int round = 0; round < 2000; ++round) {
    const auto& [name, text] = files[random() % files.size()];
    write(name, damaged(text, text.size(), random));
    if (refusal() != "accepted") ++refused;  // anything but a CheckpointError ends the test
    write(name, text);
  }
  EXPECT_GT(refused, 1000);
  EXPECT_EQ(refusal(), "accepted");
}

TEST(OpenTiny, ModelsOfTheLlamaFamilyAreRead) {
  for (const char* name :
       {"llama", "llama-bf16", "llama-fp16", "llama-sharded", "mistral", "qwen2", "qwen3"}) {
    const Checkpoint checkpoint = Checkpoint::open(tiny(name));
    const StoredTensor* embedding = checkpoint.find("model.embed_tokens.weight");
    ASSERT_NE(embedding, nullptr) << name;
    EXPECT_EQ(embedding->shape.at(0), checkpoint.config().find("vocab_size")->integer()) << name;
  }
}

TEST(OpenTiny, PicklesOnlyAreRefusedWithTheWayOut) {
  EXPECT_THAT(refusal_of([] { Checkpoint::open(tiny("llama-pickle-only")); }),
              AllOf(HasSubstr("llama-pickle-only: its weights are pickles"),
                    HasSubstr("Convert them to safetensors first")));
}

// A GGUF model of the smallest kind: metadata and an embedding.
GgufMaker small_model() {
  GgufMaker maker;
  maker.key("general.architecture", GgufMaker::kString, GgufMaker::text("llama"));
  for (const char* key : {"block_count", "context_length", "embedding_length",
                          "feed_forward_length", "attention.head_count"}) {
    maker.key(format("llama.{}", key), GgufMaker::kU32, little_endian(uint32_t{4}));
  }
  maker.key("llama.attention.layer_norm_rms_epsilon", GgufMaker::kF32, little_endian(1e-5f));
  maker.tensors = {{.name = "token_embd.weight", .dims = {4, 3}, .data = std::string(48, 'x')}};
  return maker;
}

void add_split(GgufMaker& maker, uint16_t number, uint16_t count, int32_t num_tensors) {
  maker.key("split.no", GgufMaker::kU16, little_endian(number));
  maker.key("split.count", GgufMaker::kU16, little_endian(count));
  maker.key("split.tensors.count", GgufMaker::kI32, little_endian(num_tensors));
}

class OpenGguf : public testing::Test {
 protected:
  OpenGguf() {
    second_.tensors = {{.name = "output.weight", .dims = {4, 3}, .data = std::string(48, 'y')}};
  }

  Checkpoint open_parts() const {
    folder_.write("m-00001-of-00002.gguf", first_.file());
    folder_.write("m-00002-of-00002.gguf", second_.file());
    return Checkpoint::open(folder_.path());
  }
  std::string refusal_of_parts() const {
    return refusal_of([&] { open_parts(); });
  }

  ScratchFolder folder_;
  GgufMaker first_ = small_model();
  GgufMaker second_;
};

TEST_F(OpenGguf, AFileGivesTheConfigurationOfItsMetadata) {
  const fs::path file = folder_.write("m.gguf", first_.file());
  const Checkpoint checkpoint = Checkpoint::open(file);
  EXPECT_EQ(checkpoint.format(), CheckpointFormat::kGguf);
  EXPECT_EQ(checkpoint.config().find("hidden_size")->integer(), 4);
  EXPECT_EQ(checkpoint.config().find("vocab_size")->integer(), 3);
  EXPECT_TRUE(checkpoint.config().find("tie_word_embeddings")->boolean());
  EXPECT_EQ(checkpoint.gguf_metadata().find("llama.block_count")->integer(), 4);
  EXPECT_TRUE(checkpoint.generation_config().is_null());
  EXPECT_EQ(checkpoint.side_file("m.gguf"), std::nullopt);
  ASSERT_THAT(checkpoint.sources(), SizeIs(1));
  EXPECT_EQ(checkpoint.sources()[0].path, file);
}

TEST_F(OpenGguf, WithoutAnEmbeddingItIsNoModel) {
  first_.tensors[0].name = "x";
  const fs::path file = folder_.write("m.gguf", first_.file());
  EXPECT_THAT(refusal_of([&] { Checkpoint::open(file); }),
              HasSubstr("m.gguf: tensor \"token_embd.weight\" is missing"));
}

TEST_F(OpenGguf, M_5_MoreTokensThanTheEmbeddingHasRowsAreRefused) {
  const auto tokens = [](int count) {
    std::string coded;
    for (int i = 0; i < count; ++i) coded += GgufMaker::text(std::to_string(i));
    return coded;
  };
  GgufMaker four = first_;
  four.array("tokenizer.ggml.tokens", GgufMaker::kString, 4, tokens(4));
  const fs::path file = folder_.write("m.gguf", four.file());
  EXPECT_THAT(refusal_of([&] { Checkpoint::open(file); }),
              HasSubstr("m.gguf: there are 4 tokens, and the embedding has 3 rows"));
  first_.array("tokenizer.ggml.tokens", GgufMaker::kString, 2, tokens(2));
  folder_.write("m.gguf", first_.file());
  EXPECT_EQ(refusal_of([&] { Checkpoint::open(file); }), "accepted") << "rows may be padding";
}

TEST_F(OpenGguf, PartsAreOneModelWithTheMetadataOfTheFirst) {
  add_split(first_, 0, 2, 2);
  add_split(second_, 1, 2, 2);
  const Checkpoint checkpoint = open_parts();
  EXPECT_THAT(checkpoint.tensors(), SizeIs(2));
  EXPECT_FALSE(checkpoint.config().find("tie_word_embeddings")->boolean());
  EXPECT_THAT(checkpoint.sources(), SizeIs(2));
}

TEST_F(OpenGguf, PartsThatDisagreeAreRefused) {
  const GgufMaker first = first_;
  const GgufMaker second = second_;
  EXPECT_THAT(refusal_of_parts(), HasSubstr("split.count"));
  add_split(first_, 0, 2, 2);
  add_split(second_, 1, 3, 2);
  EXPECT_THAT(refusal_of_parts(), HasSubstr("m-00002-of-00002.gguf: split.count is 3"));
  second_ = second;
  add_split(second_, 0, 2, 2);
  EXPECT_THAT(refusal_of_parts(), HasSubstr("m-00002-of-00002.gguf: split.no is 0"));
  second_ = second;
  add_split(second_, 1, 2, 2);
  first_ = first;
  add_split(first_, 0, 2, 3);
  EXPECT_THAT(refusal_of_parts(), HasSubstr("split.tensors.count is 3, and the parts hold 2"));
}

TEST_F(OpenGguf, RandomDamageIsReadOrRefused) {
  const std::string valid = first_.file();
  std::mt19937 random(7);
  int refused = 0;
  for (int round = 0; round < 2000; ++round) {
    const fs::path file = folder_.write("m.gguf", damaged(valid, valid.size(), random));
    if (refusal_of([&] { Checkpoint::open(file); }) != "accepted") ++refused;
  }
  EXPECT_GT(refused, 1000);
  EXPECT_LT(refused, 2000);
}

TEST_F(OpenGguf, AMissingPartIsNamed) {
  folder_.write("m-00001-of-00002.gguf", first_.file());
  EXPECT_THAT(refusal_of([&] { Checkpoint::open(folder_.path()); }),
              HasSubstr("m-00002-of-00002.gguf is not there"));
}

TEST_F(OpenGguf, ATensorInTwoPartsIsRefused) {
  add_split(first_, 0, 2, 2);
  add_split(second_, 1, 2, 2);
  second_.tensors[0].name = "token_embd.weight";
  EXPECT_THAT(refusal_of_parts(), HasSubstr("stands in another file, too"));
}

TEST_F(OpenGguf, ALonePartUnderAnotherNameIsRefused) {
  add_split(first_, 0, 2, 2);
  const fs::path file = folder_.write("renamed.gguf", first_.file());
  EXPECT_THAT(refusal_of([&] { Checkpoint::open(file); }),
              HasSubstr("renamed.gguf: split.count is 2"));
}

// The reference's own files, where they are.
TEST(OpenReference, GgufFilesOfEveryReadableTypeAreRead) {
  const char* given = std::getenv("TIDEMILL_SHARED");
  const fs::path shared =
      given != nullptr ? fs::path(given) : fs::path(TIDEMILL_SOURCE_DIR).parent_path() / "shared";
  const fs::path quant = shared / "reference/quant";
  if (!fs::exists(quant)) GTEST_SKIP() << quant << " is not here";
  for (const char* name : {"gguf-f16", "gguf-bf16", "gguf-q4_0", "gguf-q4_1", "gguf-q5_0",
                           "gguf-q5_1", "gguf-q8_0", "gguf-q2-k-random", "gguf-q6-k-random"}) {
    const Checkpoint checkpoint = Checkpoint::open(quant / name / "model.gguf");
    EXPECT_EQ(checkpoint.config().find("hidden_size")->integer(), 256) << name;
    std::vector<float> row(256);
    read_rows(*checkpoint.find("token_embd.weight"), 1, 1, row.data());
    EXPECT_THAT(row, Contains(testing::Ne(0.0f))) << name;
  }
  for (const char* name : {"gguf-iq4-nl-random", "gguf-iq4-xs-random"}) {
    EXPECT_THAT(refusal_of([&] { Checkpoint::open(quant / name / "model.gguf"); }),
                HasSubstr("which is not read yet"))
        << name;
  }
}

}  // namespace
}  // namespace tidemill

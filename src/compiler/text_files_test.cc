#include "compiler/text_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "compiler/test_checkpoint.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr std::string_view kTokenizer = R"({"version": "1.0",
  "added_tokens": [{"id": 0, "content": "<unk>", "special": true},
                   {"id": 1, "content": "<s>", "special": true},
                   {"id": 2, "content": "</s>", "special": true},
                   {"id": 5, "content": "<|im_end|>", "special": true},
                   {"id": 6, "content": "<|eot_id|>", "special": true}],
  "model": {"type": "BPE", "vocab": {"a": 3, "<end>": 4}, "merges": []}})";

class CollectText : public testing::Test {
 protected:
  CollectText() { made_.write(dir_.path()); }

  void file(std::string_view name, std::string_view text) {
    std::ofstream(dir_.path() / name) << text;
  }
  CheckpointText collect() {
    const Checkpoint checkpoint = Checkpoint::open(dir_.path());
    return collect_text(checkpoint, read_architecture(checkpoint.config()));
  }
  std::string special(std::string_view name) {
    const TextFiles files = collect().files;
    const JsonValue* spelling = files.special_tokens.find(name);
    return spelling == nullptr ? "none" : spelling->string();
  }

  TemporaryDir dir_;
  TestCheckpoint made_;
};

TEST_F(CollectText, ACheckpointWithoutTokenizerIsLegal) {
  const CheckpointText text = collect();
  EXPECT_EQ(text.files.tokenizer_json, std::nullopt);
  EXPECT_EQ(text.files.chat_template, std::nullopt);
  EXPECT_EQ(text.files.special_tokens, JsonValue(JsonObject{}));
  EXPECT_THAT(text.end_token_ids, ElementsAre(2));
}

TEST_F(CollectText, TheTokenizerIsTakenAsItIs) {
  file("tokenizer.json", kTokenizer);
  EXPECT_EQ(collect().files.tokenizer_json, kTokenizer);
}

TEST_F(CollectText, ATemplateFileWinsOverTheConfiguration) {
  file("tokenizer_config.json", R"({"chat_template": "from the configuration"})");
  EXPECT_EQ(collect().files.chat_template, "from the configuration");
  file("chat_template.jinja", "from the file");
  EXPECT_EQ(collect().files.chat_template, "from the file");
}

TEST_F(CollectText, OfSeveralTemplatesTheDefaultIsMeant) {
  file("tokenizer_config.json", R"({"chat_template": [{"name": "tool_use", "template": "tools"},
                                                     {"name": "default", "template": "plain"}]})");
  EXPECT_EQ(collect().files.chat_template, "plain");
  file("tokenizer_config.json",
       R"({"chat_template": [{"name": "tool_use", "template": "tools"}]})");
  EXPECT_EQ(collect().files.chat_template, std::nullopt);
}

TEST_F(CollectText, SpecialTokensAreSpelledByTheFirstFileThatDoes) {
  file("tokenizer.json", kTokenizer);
  made_.config.set("bos_token_id", 1);
  made_.write(dir_.path());
  EXPECT_EQ(special("bos_token"), "<s>") << "the tokenizer's spelling of bos_token_id";
  file("special_tokens_map.json", R"({"bos_token": {"content": "<map>"}, "pad_token": "<pad>"})");
  EXPECT_EQ(special("bos_token"), "<map>");
  file("tokenizer_config.json", R"({"bos_token": "<config>"})");
  EXPECT_EQ(special("bos_token"), "<config>");
  EXPECT_EQ(special("pad_token"), "<pad>");
  EXPECT_EQ(special("sep_token"), "none");
}

TEST_F(CollectText, NullInTheTokenizersConfigurationMeansThatThereIsNoSuchToken) {
  file("tokenizer.json", kTokenizer);
  made_.config.set("bos_token_id", 1);
  made_.write(dir_.path());
  file("special_tokens_map.json", R"({"bos_token": "<map>"})");
  file("tokenizer_config.json", R"({"bos_token": null})");
  EXPECT_EQ(special("bos_token"), "none");
}

TEST_F(CollectText, M_5_ACheckpointWithoutAnyEndTokenIsSaidAloud) {
  testing::internal::CaptureStderr();
  collect();
  EXPECT_THAT(testing::internal::GetCapturedStderr(), Not(HasSubstr("ends a text")));
  made_.config.set("eos_token_id", JsonValue());
  made_.write(dir_.path());
  testing::internal::CaptureStderr();
  EXPECT_THAT(collect().end_token_ids, IsEmpty());
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("no file names a token that ends a text"));
}

TEST_F(CollectText, M_5_ATokenizerLargerThanTheNetworkIsSaidAloud) {
  file("tokenizer.json", kTokenizer);
  testing::internal::CaptureStderr();
  collect();
  EXPECT_THAT(testing::internal::GetCapturedStderr(), Not(HasSubstr("ids up to")));
  for (const char* larger :
       {R"({"added_tokens": [{"id": 17, "content": "<x>"}]})",
        R"({"model": {"type": "BPE", "vocab": {"a": 3, "b": 17}}})",
        R"({"model": {"type": "Unigram", "vocab": [[0,0],[0,0],[0,0],[0,0],[0,0],[0,0],[0,0],[0,0],
            [0,0],[0,0],[0,0],[0,0],[0,0],[0,0],[0,0],[0,0],[0,0],[0,0]]}})"}) {
    file("tokenizer.json", larger);
    testing::internal::CaptureStderr();
    collect();
    EXPECT_THAT(testing::internal::GetCapturedStderr(),
                HasSubstr("the tokenizer has ids up to 17, and the network ids up to 16"))
        << larger;
  }
}

TEST_F(CollectText, EndIdsAreTheUnionOfEveryPlaceThatNamesOne) {
  file("tokenizer.json", kTokenizer);
  file("generation_config.json", R"({"eos_token_id": [2, 7, -1]})");
  EXPECT_THAT(collect().end_token_ids, ElementsAre(2, 7));
  file("tokenizer_config.json", R"({"eos_token": "<end>"})");
  EXPECT_THAT(collect().end_token_ids, ElementsAre(2, 7, 4));
}

TEST_F(CollectText, TheTokenWithWhichTheTemplateEndsATurnEndsTheText) {
  file("tokenizer.json", kTokenizer);
  file("chat_template.jinja", "{{ message }}<|im_end|>");
  EXPECT_THAT(collect().end_token_ids, ElementsAre(2, 5));
}

TEST_F(CollectText, M_5_AnEndIdOutsideTheVocabularyIsRefused) {
  file("generation_config.json", R"({"eos_token_id": 17})");
  try {
    collect();
    FAIL() << "accepted";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), HasSubstr("generation_config.json: eos_token_id is 17; it must be a "
                                        "token id from 0 to 16"));
  }
}

TEST_F(CollectText, OnlyKnownGenerationDefaultsAreKept) {
  file("generation_config.json",
       R"({"temperature": 0.6, "top_p": null, "max_length": 20, "transformers_version": "5"})");
  EXPECT_EQ(collect().files.generation_defaults, JsonValue(JsonObject{{"temperature", 0.6}}));
}

TEST_F(CollectText, ABrokenSideFileIsNamed) {
  file("tokenizer_config.json", R"({"chat_template": )");
  try {
    collect();
    FAIL() << "accepted";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), HasSubstr("tokenizer_config.json"));
  }
}

}  // namespace
}  // namespace tidemill

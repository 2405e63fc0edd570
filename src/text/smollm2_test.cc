// Equality with the reference implementation on a real tokenizer and template.
#ifndef TIDEMILL_NO_TEXT  // all of it needs the Rust library

#include <gtest/gtest.h>

#include "base/json.h"
#include "text/chat_template.h"
#include "text/detokenizer.h"
#include "text/test_files.h"
#include "text/tokenizer.h"

namespace tidemill {
namespace {

class SmolLM2 : public testing::Test {
 protected:
  void SetUp() override {
    SKIP_WITHOUT(model_ / "tokenizer.json");
    SKIP_WITHOUT(reference_);
    tokenizer_ = std::make_unique<Tokenizer>(read_file(model_ / "tokenizer.json"));
  }

  JsonValue vectors(const char* name) {
    return std::move(*parse_json(read_file(reference_ / name), kFileJsonLimits));
  }

  static std::vector<TokenId> ids_of(const JsonValue& list) {
    std::vector<TokenId> ids;
    for (const JsonValue& id : list.array()) ids.push_back(static_cast<TokenId>(id.integer()));
    return ids;
  }

  const std::filesystem::path model_ = models_folder() / "hf-f32";
  const std::filesystem::path reference_ = shared_folder() / "reference/smollm2";
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(SmolLM2, EveryStringBecomesTheReferencesIdsAndComesBack) {
  const JsonValue all = vectors("tokenizer-vectors.json");
  for (const JsonValue& vector : all.array()) {
    const std::string& text = vector.find("text")->string();
    const auto ids = tokenizer_->encode(text, {});
    ASSERT_TRUE(ids);
    EXPECT_EQ(*ids, ids_of(*vector.find("ids"))) << text;
    EXPECT_EQ(tokenizer_->decode(*ids, false), vector.find("decoded")->string());
    EXPECT_EQ(tokenizer_->decode(*ids, true), vector.find("decoded_without_specials")->string());
  }
}

TEST_F(SmolLM2, StreamedTextIsTheTextAtOnce) {
  const JsonValue all = vectors("tokenizer-vectors.json");
  for (const JsonValue& vector : all.array()) {
    const auto ids = ids_of(*vector.find("ids"));
    Detokenizer detokenizer(tokenizer_.get(), false);
    std::string text;
    for (const TokenId id : ids) text += detokenizer.push(id);
    text += detokenizer.finish();
    EXPECT_EQ(text, vector.find("decoded")->string());
  }
}

TEST_F(SmolLM2, TokensBytesJoinedAreTheText) {
  const JsonValue all = vectors("tokenizer-vectors.json");
  for (const JsonValue& vector : all.array()) {
    std::string bytes;
    for (const TokenId id : ids_of(*vector.find("ids"))) bytes += *tokenizer_->token_bytes(id);
    EXPECT_EQ(bytes, vector.find("decoded")->string());
  }
}

TEST_F(SmolLM2, ConversationsAreRenderedAndEncodedAsTheReferenceDoes) {
  const auto config = parse_json(read_file(model_ / "tokenizer_config.json"), kFileJsonLimits);
  const ChatTemplate chat(config->find("chat_template")->string(), JsonObject{});
  const JsonValue all = vectors("chat-vectors.json");
  for (const JsonValue& vector : all.array()) {
    const ChatTemplateOptions options{.add_generation_prompt =
                                          vector.find("add_generation_prompt")->boolean()};
    const JsonValue& messages = *vector.find("messages");
    const auto text = chat.render(messages, options);
    ASSERT_TRUE(text) << text.error().message;
    EXPECT_EQ(*text, vector.find("text")->string());
    const auto ids = chat.encode(*tokenizer_, messages, options);
    ASSERT_TRUE(ids) << ids.error().message;
    // Control tokens that a user spells are plain text here, and control tokens there.
    if (to_json(messages).find("<|im_") == std::string::npos) {
      EXPECT_EQ(*ids, ids_of(*vector.find("ids"))) << *text;
    } else {
      EXPECT_NE(*ids, ids_of(*vector.find("ids"))) << *text;
      EXPECT_EQ(tokenizer_->decode(*ids, false), *text);
    }
  }
}

// What the user writes is encoded as if the vocabulary had no control tokens.
TEST_F(SmolLM2, P_6_AUsersControlTokensAreTheOnlyOnesThatChange) {
  const ChatTemplate chat(
      "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>\n{% endfor %}", JsonObject{});
  const TokenId begin = *tokenizer_->find("<|im_start|>"), end = *tokenizer_->find("<|im_end|>");
  for (const std::string content :
       {"a<|im_end|> b", "<|im_start|>", " <|im_end|>\n<|im_start|>x"}) {
    const auto ids =
        chat.encode(*tokenizer_, JsonArray{JsonObject{{"role", "user"}, {"content", content}}}, {});
    std::vector<TokenId> expected = {begin};
    const auto plain =
        tokenizer_->encode(content, {.add_special_tokens = false, .parse_control_tokens = false});
    expected.insert(expected.end(), plain->begin(), plain->end());
    expected.push_back(end);
    expected.push_back(tokenizer_->encode("\n", {.add_special_tokens = false})->front());
    EXPECT_EQ(*ids, expected) << content;
    EXPECT_EQ(std::count(ids->begin(), ids->end(), end), 1);
  }
}

}  // namespace
}  // namespace tidemill

#endif

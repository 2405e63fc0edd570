#include "draft_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/test_tokenizers.h"
#include "text/text_library.h"

namespace tidemill {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string refusal(const TextFiles& text, int64_t vocab_size, const TextFiles& draft_text,
                    int64_t draft_vocab_size) {
  try {
    require_same_tokens("large", text, vocab_size, "small", draft_text, draft_vocab_size);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

// The byte tokenizer with a piece of its JSON replaced.
TextFiles changed(const std::string& from, const std::string& to) {
  std::string json = byte_tokenizer();
  const size_t at = json.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  json.replace(at, from.size(), to);
  return {.tokenizer_json = json};
}

TEST(DraftModel, WithoutATokenizerTheNumberOfTokensDecides) {
  EXPECT_EQ(refusal({}, 431, {}, 431), "");
  EXPECT_THAT(refusal({}, 431, {}, 432),
              AllOf(HasSubstr("small, which has 432 tokens"), HasSubstr("large has 431")));
  EXPECT_THAT(refusal({.tokenizer_json = byte_tokenizer()}, 431, {}, 300),
              HasSubstr("has 300 tokens"));
}

TEST(DraftModel, TheSameTokensMayBePaddedAndOneMayBeCalledOtherwise) {
  if (!kHasTextLibrary) GTEST_SKIP() << "built without Rust";
  EXPECT_EQ(
      refusal({.tokenizer_json = byte_tokenizer()}, 258, {.tokenizer_json = byte_tokenizer()}, 320),
      "");
  EXPECT_EQ(
      refusal({.tokenizer_json = byte_tokenizer()}, 258, changed("<|user|>", "<|human|>"), 258),
      "");
}

TEST(DraftModel, OthersAreRefusedWithTheFirstOfThem) {
  if (!kHasTextLibrary) GTEST_SKIP() << "built without Rust";
  // Digits stand where letters do, and the other way round.
  JsonObject vocabulary = byte_vocabulary();
  for (auto& [token, id] : vocabulary) {
    const int64_t byte = id.integer();
    if (byte >= 'a' && byte < 'k') id = byte - 'a' + '0';
    if (byte >= '0' && byte <= '9') id = byte - '0' + 'a';
  }
  const TextFiles other = changed(to_json(byte_vocabulary()), to_json(vocabulary));
  EXPECT_THAT(refusal({.tokenizer_json = byte_tokenizer()}, 258, other, 258),
              AllOf(HasSubstr("20 of 258 differ"), HasSubstr("the first of them 48 (\"a\""),
                    HasSubstr("\"0\" in the model")));
}

}  // namespace
}  // namespace tidemill

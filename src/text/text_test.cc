#ifndef TIDEMILL_NO_TEXT  // all of it needs the Rust library

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/check.h"
#include "base/json.h"
#include "base/utf8.h"
#include "text/detokenizer.h"
#include "text/test_tokenizers.h"
#include "text/tokenizer.h"

namespace tidemill {
namespace {

using testing::ElementsAre;

TEST(Tokenizer, ControlTokensInATextAreParsedOnlyWhenAsked) {
  const Tokenizer tokenizer(byte_tokenizer());
  EXPECT_THAT(*tokenizer.encode("a<|end|>", {}), ElementsAre('a', 256));
  EXPECT_EQ(tokenizer.encode("a<|end|>", {.parse_control_tokens = false})->size(), 8u);
  EXPECT_THAT(tokenizer.control_tokens(),
              ElementsAre(testing::Field(&ControlToken::spelling, "<|end|>"),
                          testing::Field(&ControlToken::spelling, "<|user|>")));
  EXPECT_TRUE(tokenizer.is_special(256));
  EXPECT_FALSE(tokenizer.is_special('a'));
}

TEST(Tokenizer, SpecialTokensAreAddedOnlyWhenAsked) {
  const Tokenizer tokenizer(sentencepiece_tokenizer());
  EXPECT_THAT(*tokenizer.encode("ab", {}), ElementsAre(1, 264));
  EXPECT_THAT(*tokenizer.encode("ab", {.add_special_tokens = false}), ElementsAre(264));
}

TEST(Tokenizer, BytesOfATokenAreThoseItStandsFor) {
  const Tokenizer bytes(byte_tokenizer());
  for (int byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(bytes.token_bytes(byte), std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(bytes.token_bytes(256), "<|end|>");
  EXPECT_EQ(bytes.token_bytes(258), std::nullopt);
  EXPECT_EQ(bytes.token_bytes(-1), std::nullopt);
  const Tokenizer pieces(sentencepiece_tokenizer());
  EXPECT_EQ(pieces.token_bytes(3 + 0xe2), "\xe2");
  EXPECT_EQ(pieces.token_bytes(264), " ab");
}

TEST(Tokenizer, KnowsWhereBytesAloneMakeTheText) {
  EXPECT_EQ(Tokenizer(byte_tokenizer()).decoding(), Decoding::kBytes);
  EXPECT_EQ(Tokenizer(sentencepiece_tokenizer()).decoding(), Decoding::kBytesLessBlank);
  EXPECT_EQ(Tokenizer(metaspace_tokenizer()).decoding(), Decoding::kTogether);
  const Tokenizer pieces(sentencepiece_tokenizer());
  EXPECT_EQ(pieces.decoded_bytes(3 + 0xe2), "\xe2");
  EXPECT_EQ(pieces.decoded_bytes(264), " ab");
  EXPECT_EQ(pieces.decoded_bytes(265), "");
  EXPECT_EQ(pieces.decoded_bytes(-1), "");
}

std::string with_added(const char* tokens) {
  std::string file = sentencepiece_tokenizer();
  const std::string none = R"("added_tokens":[])";
  return file.replace(file.find(none), none.size(), format(R"("added_tokens":[{}])", tokens));
}

// Older Llama checkpoints: the library knows </s> as "\u2581</s>", which a client must not see.
TEST(Tokenizer, ASpecialTokenThatIsNormalisedIsSpelledAndSkippedLikeAnother) {
  const Tokenizer tokenizer(
      with_added(R"({"id":2,"content":"</s>","single_word":false,"lstrip":false,"rstrip":false,)"
                 R"("normalized":true,"special":true})"));
  EXPECT_TRUE(tokenizer.is_special(2));
  EXPECT_EQ(tokenizer.token_bytes(2), "</s>");
  EXPECT_EQ(tokenizer.decode(std::vector<TokenId>{264, 2}, true), "ab");
}

TEST(Tokenizer, AddedTokensSwallowBlanksAndMatchWholeWordsAsTheySay) {
  const Tokenizer tokenizer(
      with_added(R"({"id":265,"content":"[L]","single_word":false,"lstrip":true,"rstrip":false,)"
                 R"("normalized":false,"special":false},)"
                 R"({"id":266,"content":"[R]","single_word":false,"lstrip":false,"rstrip":true,)"
                 R"("normalized":false,"special":false},)"
                 R"({"id":267,"content":"bab","single_word":true,"lstrip":false,"rstrip":false,)"
                 R"("normalized":false,"special":false})"));
  const auto ids = [&](const char* text) {
    return *tokenizer.encode(text, {.add_special_tokens = false});
  };
  EXPECT_THAT(ids("ab  [L]"), ElementsAre(264, 265));
  EXPECT_THAT(ids("[R]  ab"), ElementsAre(266, 264));
  EXPECT_THAT(ids("ab bab"), ElementsAre(264, 259, 267));
  EXPECT_THAT(ids("abab"), testing::Not(testing::Contains(267)));
}

// The library is given one expression in place of both steps; a sequence in a sequence it does not
// know keeps them.
TEST(Tokenizer, DigitsAndWordsCutInOnePassAreCutAsInTwo) {
  const std::string digits = R"({"type":"Digits","individual_digits":true})";
  const Tokenizer one_pass(word_tokenizer(digits));
  const Tokenizer two_passes(
      word_tokenizer(R"({"type":"Sequence","pretokenizers":[)" + digits + "]}"));
  constexpr TokenId kInside = 256;
  EXPECT_THAT(*one_pass.encode("a  1b 23", {}),
              ElementsAre('a', ' ', ' ' + kInside, '1', 'b', ' ', '2', '3'));

  constexpr std::string_view kParts[] = {
      "1",          "7",      "\u0663", "\u00bd", "\u2167",
      "\U0001d7d8", " ",      "  ",     "\n",     "\t",
      "\u00a0",     "\u3000", "a",      "Q",      "\u00e9",
      "e\u0301",    "\u4e2d", "'",      "'s",     "'re",
      "'ll",        ".",      "_",      "$",      "\U0001f468\u200d"};
  std::mt19937 random(11);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (int part = 0; part < 12; ++part) text += kParts[random() % std::size(kParts)];
    EXPECT_EQ(*one_pass.encode(text, {}), *two_passes.encode(text, {})) << text;
  }

  const auto expect_same_around = [&](uint32_t character) {
    std::string text;
    for (const char* before : {"a", "1", " ", ".", "\n ", "'", " 1 ", "\u2167"}) {
      text += before;
      append_utf8(&text, character);
    }
    append_utf8(&text, character);
    EXPECT_EQ(*one_pass.encode(text, {}), *two_passes.encode(text, {})) << character;
  };
  for (uint32_t character = 1; character < 0x3400; ++character) expect_same_around(character);
  for (uint32_t character = 0x1d000; character < 0x1e000; ++character)
    expect_same_around(character);
}

TEST(Tokenizer, TextThatIsNotUtf8IsRefused) {
  const Tokenizer tokenizer(byte_tokenizer());
  EXPECT_FALSE(tokenizer.encode("\xff", {}));
}

TEST(Tokenizer, IdsOutsideTheVocabularyDecodeToNothing) {
  const Tokenizer tokenizer(byte_tokenizer());
  const std::vector<TokenId> ids = {'a', 1 << 20, -5, 'b'};
  EXPECT_EQ(tokenizer.decode(ids, false), "ab");
}

TEST(Tokenizer, AFileThatIsNoTokenizerIsRefusedWithTheReason) {
  for (const char* text : {"", "{}", "{\"model\":5}", "\xff"}) {
    EXPECT_THROW(Tokenizer{text}, std::runtime_error) << text;
  }
}

TEST(Tokenizer, Z_5_WhatMakesTheLibraryPanicIsRefusedAndNotPrinted) {
  for (const char* text : {R"({"decoder":{"type":"Metaspace","replacement":"_" "secret"}})",
                           R"({"decoder":5,"secret":1})", R"({"decoder":{"secret":[]}})"}) {
    testing::internal::CaptureStderr();
    EXPECT_THROW(Tokenizer{text}, std::runtime_error) << text;
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "") << text;
  }
}

TEST(Detokenizer, StreamedTextIsTheTextAtOnceAndWholeCharacters) {
  std::mt19937_64 random(3);
  const std::string files[] = {byte_tokenizer(), sentencepiece_tokenizer()};
  for (const std::string& file : files) {
    const Tokenizer tokenizer(file);
    for (int round = 0; round < 300; ++round) {
      std::vector<TokenId> ids;
      for (size_t i = random() % 40; i > 0; --i) {
        ids.push_back(
            static_cast<TokenId>(random() % static_cast<uint64_t>(tokenizer.vocab_size())));
      }
      if (round % 2 == 0) {  // text in many scripts instead of broken bytes
        std::string text;
        for (int i = 0; i < 10; ++i)
          append_utf8(&text, static_cast<uint32_t>(random() % 0x3000 + 32));
        ids = *tokenizer.encode(text, {.add_special_tokens = false});
      }
      Detokenizer detokenizer(&tokenizer, false);
      std::string streamed;
      for (const TokenId id : ids) {
        const std::string piece = detokenizer.push(id);
        EXPECT_FALSE(first_invalid_utf8(piece));
        streamed += piece;
      }
      streamed += detokenizer.finish();
      // Broken bytes may be grouped differently; whole text must be equal.
      if (round % 2 == 0) {
        EXPECT_EQ(streamed, tokenizer.decode(ids, false));
      }
    }
  }
}

TEST(Detokenizer, HalfACharacterIsHeldBackAndReleasedAtTheEnd) {
  const Tokenizer tokenizer(byte_tokenizer());
  Detokenizer detokenizer(&tokenizer, false);
  EXPECT_EQ(detokenizer.push(0xc3), "");
  EXPECT_EQ(detokenizer.push(0xa9), "é");
  EXPECT_EQ(detokenizer.push(0xf0), "");
  EXPECT_EQ(detokenizer.finish(), "\ufffd");
}

TEST(Detokenizer, ALeadingBlankSurvivesBehindAContext) {
  const Tokenizer tokenizer(sentencepiece_tokenizer());
  Detokenizer alone(&tokenizer, false);
  EXPECT_EQ(alone.push(264), "ab");
  Detokenizer behind(&tokenizer, false, {264});
  EXPECT_EQ(behind.push(264), " ab");
}

}  // namespace
}  // namespace tidemill

#endif

#ifndef TIDEMILL_NO_TEXT  // all of it needs the Rust library

#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include <random>

#include "base/utf8.h"
#include "text/stop_strings.h"
#include "text/test_tokenizers.h"

namespace tidemill {
namespace {

constexpr int kRounds = 34'000;  // for each of three tokenizers: 10^5 in all

// What a client must see of `text`, told by a search of the whole of it.
struct Cut {
  std::string text;
  std::optional<std::string> stop;
};

Cut cut(const std::string& text, const std::vector<std::string>& stops, bool keep) {
  for (size_t end = 1; end <= text.size(); ++end) {  // the match that ends first, then the longest
    std::optional<std::string> best;
    for (const std::string& stop : stops) {
      if (!text.substr(0, end).ends_with(stop)) continue;
      if (!best || stop.size() > best->size()) best = stop;
    }
    if (best) return {text.substr(0, keep ? end : end - best->size()), best};
  }
  return {text, std::nullopt};
}

class DeltasEqualTheWhole : public testing::TestWithParam<std::string (*)()> {
 protected:
  const Tokenizer tokenizer_{GetParam()()};
  const Tokenizer bytes_{byte_tokenizer()};
  std::mt19937_64 random_{7};

  size_t below(size_t bound) { return random_() % bound; }

  // Few characters of every length, so that stop strings meet them often.
  std::string some_text(size_t most) {
    constexpr const char* kCharacters[] = {"a", "b", " ", "é", "è", "漢", "漣", "😀", "😁"};
    std::string text;
    for (size_t i = below(most + 1); i > 0; --i) text += kCharacters[below(9)];
    return text;
  }

  // Text, cut anywhere into tokens; among it special tokens, any bytes and ids of nobody.
  std::vector<TokenId> some_ids() {
    std::vector<TokenId> ids;
    for (size_t part = below(4) + 1; part > 0; --part) {
      if (below(4) == 0) {
        for (size_t i = below(6); i > 0; --i) {
          ids.push_back(static_cast<TokenId>(below(static_cast<size_t>(tokenizer_.vocab_size()))));
        }
        if (below(10) == 0) ids.push_back(1 << 20);
        continue;
      }
      std::vector<TokenId> text = *tokenizer_.encode(some_text(6), {.add_special_tokens = false});
      if (below(8) == 0 && !text.empty()) text.resize(below(text.size()));  // breaks off
      ids.insert(ids.end(), text.begin(), text.end());
    }
    return ids;
  }

  // The whole at once. The byte tokenizer's decoder is the reference for bytes that are no text.
  std::string whole(const std::vector<TokenId>& ids, bool skip) const {
    if (tokenizer_.decoding() == Decoding::kTogether) return tokenizer_.decode(ids, skip);
    std::vector<TokenId> bytes;
    for (const TokenId id : ids) {
      if (skip && tokenizer_.is_special(id)) continue;
      for (const char c : tokenizer_.token_bytes(id).value_or("")) {
        bytes.push_back(static_cast<unsigned char>(c));
      }
    }
    const bool less_blank = tokenizer_.decoding() == Decoding::kBytesLessBlank;
    if (less_blank && !bytes.empty() && bytes[0] == ' ') bytes.erase(bytes.begin());
    return bytes_.decode(bytes, false);
  }
};

TEST_P(DeltasEqualTheWhole, K_2_K_3_ForAnyTokenBordersAndStopStrings) {
  for (int round = 0; round < kRounds; ++round) {
    const std::vector<TokenId> ids = some_ids();
    const bool skip = below(2) == 0, keep = below(4) == 0;
    const std::string text = whole(ids, skip);
    std::vector<std::string> stops;
    for (size_t i = below(4); i > 0; --i) {
      std::string stop = some_text(3);
      if (below(20) == 0) stop += "\ufffd";
      if (!stop.empty()) stops.push_back(stop);
    }
    Detokenizer detokenizer(&tokenizer_, skip);
    StopStrings stop_strings(stops, keep);
    std::string all, out;
    const auto take = [&](const std::string& piece) {
      ASSERT_FALSE(first_invalid_utf8(piece));
      const std::string delta = stop_strings.push(piece);
      ASSERT_FALSE(first_invalid_utf8(delta));
      all += piece;
      out += delta;
      // No byte of a stop string, and none that may become one, was ever let out.
      ASSERT_TRUE(cut(all, stops, keep).text.starts_with(out)) << all;
    };
    for (const TokenId id : ids) take(detokenizer.push(id));
    take(detokenizer.finish());
    out += stop_strings.finish();
    const Cut expected = cut(text, stops, keep);
    ASSERT_EQ(all, text) << "round " << round;
    ASSERT_EQ(out, expected.text) << "round " << round;
    ASSERT_EQ(stop_strings.matched(), expected.stop) << "round " << round;
  }
}

// What is decoded byte by byte is what the library decodes at once, wherever that is text.
TEST_P(DeltasEqualTheWhole, AndTheLibrarysOwnDecoder) {
  for (int round = 0; round < 3000; ++round) {
    const std::vector<TokenId> ids = some_ids();
    const std::string text = tokenizer_.decode(ids, true);
    if (text.find("\ufffd") == std::string::npos) {
      ASSERT_EQ(whole(ids, true), text);
    }
  }
}

TEST_P(DeltasEqualTheWhole, K_2_AtMostThreeBytesAreHeldHoweverBrokenTheyAre) {
  if (tokenizer_.decoding() == Decoding::kTogether) return;  // it has no byte tokens
  for (int round = 0; round < 2000; ++round) {
    Detokenizer detokenizer(&tokenizer_, true);
    std::vector<TokenId> ids;
    size_t shown = 0;
    for (size_t i = 0; i < 40; ++i) {
      ids = some_ids();
      for (const TokenId id : ids) detokenizer.push(id);
      shown = detokenizer.finish().size();
      ASSERT_LE(shown, 3u);  // one U+FFFD
    }
  }
}

std::string name_of(const testing::TestParamInfo<std::string (*)()>& tokenizer) {
  constexpr const char* kNames[] = {"Bytes", "ByteFallback", "Metaspace"};
  return kNames[tokenizer.index];
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, DeltasEqualTheWhole,
                         testing::Values(byte_tokenizer, sentencepiece_tokenizer,
                                         metaspace_tokenizer),
                         name_of);

// The cost of a token must not grow with how many came before it and said nothing.
TEST(Detokenizer, SkippedTokensAreForgotten) {
  const Tokenizer tokenizer(metaspace_tokenizer());
  Detokenizer detokenizer(&tokenizer, true);
  for (int i = 0; i < 100'000; ++i) ASSERT_EQ(detokenizer.push(1), "");
  EXPECT_EQ(detokenizer.push(5), tokenizer.decode(std::vector<TokenId>{5}, true));
}

}  // namespace
}  // namespace tidemill

#endif

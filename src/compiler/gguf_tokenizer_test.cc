// A GGUF file's tokenizer, run as the tokenizer.json that it becomes.
#include "compiler/gguf_tokenizer.h"
#include "compiler/golden.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <unordered_map>

#include "checkpoint/checkpoint.h"
#include "checkpoint/test_files.h"
#include "text/test_files.h"
#include "text/tokenizer.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr EncodeOptions kPlain{.add_special_tokens = false, .parse_control_tokens = false};

// What the metadata is refused with, or "accepted".
std::string refusal(const JsonValue& metadata) {
  try {
    gguf_tokenizer_json(metadata);
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "accepted";
}

JsonValue json_of(const JsonValue& metadata) {
  return std::move(*parse_json(gguf_tokenizer_json(metadata).value(), kFileJsonLimits));
}

std::unique_ptr<Tokenizer> tokenizer_of(const JsonValue& metadata) {
  return std::make_unique<Tokenizer>(gguf_tokenizer_json(metadata).value());
}
bool has_text() {
  try {
    Tokenizer(R"({"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}})");
  } catch (const std::runtime_error& error) {
    return std::string_view(error.what()).find("TIDEMILL_TEXT=OFF") == std::string_view::npos;
  }
  return true;
}

std::vector<std::string> pieces(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<std::string> found;
  const std::vector<TokenId> ids = *tokenizer.encode(text, kPlain);
  for (const TokenId id : ids) {
    found.push_back(*tokenizer.token_bytes(id));
  }
  return found;
}

// ---- Byte-level BPE -------------------------------------------------------------------------

// The digits, some letters and the blank, with merges that join whatever stands in one piece.
class ByteLevel : public testing::Test {
 protected:
  ByteLevel() {
    tokens_ = JsonArray{"<|begin|>", "<|end|>"};
    for (const char* token :
         {"1",  "2",   "3",    "4",  "a",        "b",  "\u0120", "'",   "l",  "A",
          "12", "123", "1234", "ab", "\u0120ab", "xy", "ll",     "'ll", "LL", "L"}) {
      tokens_.emplace_back(token);
    }
    types_ = JsonArray(tokens_.size(), JsonValue(1));
    types_[0] = types_[1] = 3;
    merges_ = JsonArray{"1 2", "12 3", "123 4", "a b", "\u0120 ab", "l l", "' ll", "L L"};
    extra_ = JsonObject{{"tokenizer.ggml.bos_token_id", 0}, {"tokenizer.ggml.eos_token_id", 1}};
  }

  JsonValue metadata() const {
    JsonValue all = JsonObject{{"tokenizer.ggml.model", "gpt2"},
                               {"tokenizer.ggml.pre", pre_},
                               {"tokenizer.ggml.tokens", tokens_},
                               {"tokenizer.ggml.token_type", types_},
                               {"tokenizer.ggml.merges", merges_}};
    for (const auto& [key, value] : extra_.object()) all.set(key, value);
    return all;
  }
  std::string refusal_here() const { return refusal(metadata()); }

  std::string pre_ = "gpt-2";
  JsonArray tokens_;
  JsonArray types_;
  JsonArray merges_;
  JsonValue extra_;
};

TEST_F(ByteLevel, TheNameOfThePreTokeniserDecidesHowTextIsCut) {
  if (!has_text()) GTEST_SKIP() << "built with TIDEMILL_TEXT=OFF";
  struct Case {
    std::vector<const char*> names;
    std::vector<std::string> digits;
  };
  const Case cases[] = {
      {{"gpt-2", "gpt2", "default", "mpt", "olmo"}, {"1234"}},
      {{"llama-bpe", "llama3", "llama-v3"}, {"123", "4"}},
      {{"qwen2", "deepseek-r1-qwen", "smollm", "starcoder", "refact", "command-r"},
       {"1", "2", "3", "4"}},
  };
  for (const Case& expected : cases) {
    for (const char* name : expected.names) {
      pre_ = name;
      const auto tokenizer = tokenizer_of(metadata());
      EXPECT_EQ(pieces(*tokenizer, "1234"), expected.digits) << name;
      EXPECT_THAT(pieces(*tokenizer, "ab ab"), ElementsAre("ab", " ab")) << name;
      EXPECT_THAT(pieces(*tokenizer, "a'll"), ElementsAre("a", "'ll")) << name;
    }
  }
}

TEST_F(ByteLevel, WithoutANameTheDefaultIsMeant) {
  JsonValue all = metadata();
  std::erase_if(all.object(), [](const JsonMember& m) { return m.first == "tokenizer.ggml.pre"; });
  EXPECT_EQ(gguf_tokenizer_json(all), gguf_tokenizer_json(metadata()));
}

TEST_F(ByteLevel, OnlyLlama3TakesWholePiecesBeforeMerges) {
  if (!has_text()) GTEST_SKIP() << "built with TIDEMILL_TEXT=OFF";
  merges_.erase(merges_.begin() + 1, merges_.begin() + 3);  // "123" can no longer be merged
  for (const char* name : {"llama-bpe", "llama3", "llama-v3"}) {
    pre_ = name;
    EXPECT_THAT(pieces(*tokenizer_of(metadata()), "123"), ElementsAre("123")) << name;
  }
  pre_ = "gpt-2";
  EXPECT_THAT(pieces(*tokenizer_of(metadata()), "123"), ElementsAre("12", "3"));
}

TEST_F(ByteLevel, ControlTokensAreMatchedInTextWhenAskedFor) {
  if (!has_text()) GTEST_SKIP() << "built with TIDEMILL_TEXT=OFF";
  const auto tokenizer = tokenizer_of(metadata());
  EXPECT_TRUE(tokenizer->is_special(0));
  EXPECT_FALSE(tokenizer->is_special(2));
  EXPECT_EQ(*tokenizer->encode("<|end|>", {.add_special_tokens = false}), std::vector<TokenId>{1});
  EXPECT_EQ(tokenizer->decode(std::vector<TokenId>{0, 15, 1}, true), "ab");
}

TEST_F(ByteLevel, BeginAndEndAreAddedWhereTheFileSaysSo) {
  if (!has_text()) GTEST_SKIP() << "built with TIDEMILL_TEXT=OFF";
  const auto encoded = [&] { return *tokenizer_of(metadata())->encode("ab", {}); };
  EXPECT_THAT(encoded(), ElementsAre(15));
  extra_.set("tokenizer.ggml.add_bos_token", true);
  EXPECT_THAT(encoded(), ElementsAre(0, 15));
  extra_.set("tokenizer.ggml.add_eos_token", true);
  EXPECT_THAT(encoded(), ElementsAre(0, 15, 1));
  extra_.set("tokenizer.ggml.eos_token_id", 0);  // one token for both
  EXPECT_THAT(encoded(), ElementsAre(0, 15, 0));
  extra_ = JsonObject{{"tokenizer.ggml.bos_token_id", 0}};
  for (const char* name : {"llama-bpe", "llama3", "llama-v3"}) {
    pre_ = name;
    EXPECT_THAT(encoded(), ElementsAre(0, 15)) << "Llama 3's default, as " << name;
  }
}

TEST_F(ByteLevel, QwensComposeCharactersFirst) {
  const JsonValue nfc = JsonObject{{"type", "NFC"}};
  for (const char* name : {"qwen2", "deepseek-r1-qwen", "llama-bpe", "gpt-2", "smollm"}) {
    pre_ = name;
    const bool is_qwen = pre_.find("qwen") != std::string::npos;
    EXPECT_EQ(*json_of(metadata()).find("normalizer"), is_qwen ? nfc : JsonValue()) << name;
  }
}

TEST_F(ByteLevel, WhatIsWrittenIsStrictJson) {
  extra_.set("tokenizer.ggml.add_bos_token", true);
  extra_.set("tokenizer.ggml.add_eos_token", true);
  extra_.set("tokenizer.ggml.eos_token_id", 0);
  const auto json = parse_json(*gguf_tokenizer_json(metadata()), kFileJsonLimits);
  EXPECT_TRUE(json) << json.error().message;
}

TEST_F(ByteLevel, UnknownKindsAreRefusedByName) {
  pre_ = "deepseek-llm";
  EXPECT_THAT(refusal_here(), HasSubstr("the pre-tokeniser deepseek-llm is not supported"));
  pre_ = "gpt-2";
  extra_.set("tokenizer.ggml.model", "bert");
  EXPECT_THAT(refusal_here(), HasSubstr("kind bert is not supported; gpt2 and llama are"));
  extra_.set("tokenizer.ggml.model", 7);
  EXPECT_THAT(refusal_here(), HasSubstr("tokenizer.ggml.model must be a string"));
  extra_.set("tokenizer.ggml.model", "gpt2");
  extra_.set("tokenizer.ggml.pre", 7);
  EXPECT_THAT(refusal_here(), HasSubstr("tokenizer.ggml.pre must be a string"));
}

TEST_F(ByteLevel, TokensAreDistinctShortStrings) {
  const JsonArray good = tokens_;
  tokens_[5] = 7;
  EXPECT_THAT(refusal_here(), HasSubstr("tokens must be strings"));
  tokens_ = good;
  tokens_[5] = std::string(4097, 'x');
  EXPECT_THAT(refusal_here(), HasSubstr("at most 4096 bytes"));
  tokens_ = good;
  tokens_[3] = tokens_[2];
  EXPECT_THAT(refusal_here(), HasSubstr("token 3 is spelled as token 2"));
  tokens_.clear();
  EXPECT_THAT(refusal_here(), HasSubstr("tokenizer.ggml.tokens is missing"));
  extra_.set("tokenizer.ggml.tokens", "x");
  EXPECT_THAT(refusal_here(), HasSubstr("tokenizer.ggml.tokens must be a list"));
}

TEST_F(ByteLevel, TypesAreAsManyAsTokens) {
  types_.pop_back();
  EXPECT_THAT(refusal_here(), HasSubstr("token_type and tokens differ in length"));
  types_.emplace_back("1");
  EXPECT_THAT(refusal_here(), HasSubstr("token_type must hold integers"));
}

TEST_F(ByteLevel, MergesJoinTwoTokensIntoAThird) {
  const JsonArray good = merges_;
  for (const JsonValue& wrong :
       {JsonValue("12"), JsonValue(""), JsonValue(" "), JsonValue(" 12"), JsonValue("12 "),
        JsonValue("1 2 3"), JsonValue(7), JsonValue(JsonArray{"1", "2"})}) {
    merges_ = good;
    merges_.push_back(wrong);
    EXPECT_THAT(refusal_here(), HasSubstr("merges must be strings of two pieces"))
        << to_json(wrong);
  }
  for (const char* wrong : {"1 x", "x 1", "2 1"}) {
    merges_ = good;
    merges_.emplace_back(wrong);
    EXPECT_THAT(refusal_here(),
                HasSubstr(format("merge \"{}\" names a piece that is no token", wrong)));
  }
  extra_.set("tokenizer.ggml.merges", JsonValue());
  EXPECT_THAT(refusal_here(), HasSubstr("tokenizer.ggml.merges must be a list"));
}

TEST_F(ByteLevel, IdsLieInsideTheVocabulary) {
  extra_.set("tokenizer.ggml.add_bos_token", true);
  for (const int64_t id : {int64_t{22}, int64_t{1} << 31, int64_t{1} << 62}) {
    extra_.set("tokenizer.ggml.bos_token_id", id);
    EXPECT_THAT(refusal_here(), HasSubstr("tokenizer.ggml.bos_token_id is")) << id;
  }
  extra_.set("tokenizer.ggml.bos_token_id", -1);
  EXPECT_EQ(refusal_here(), "accepted") << "none";
  extra_.set("tokenizer.ggml.bos_token_id", "0");
  EXPECT_THAT(refusal_here(), HasSubstr("tokenizer.ggml.bos_token_id must be an integer"));
}

TEST_F(ByteLevel, EveryIdIsCheckedWhetherItIsUsedOrNot) {
  for (const char* key : {"eos", "unknown", "padding", "seperator", "eot", "eom"}) {
    extra_ = JsonObject{{format("tokenizer.ggml.{}_token_id", key), 22}};
    EXPECT_THAT(refusal_here(), HasSubstr("and there are 22 tokens")) << key;
  }
}

TEST(NoTokenizer, IsSaidByTheFileOrByItsAbsence) {
  EXPECT_EQ(gguf_tokenizer_json(JsonObject{}), std::nullopt);
  for (const char* kind : {"none", "no_vocab"}) {
    EXPECT_EQ(gguf_tokenizer_json(JsonObject{{"tokenizer.ggml.model", kind}}), std::nullopt);
  }
}

TEST(WholeTokenizer, InsideTheFileIsTakenAsItIs) {
  EXPECT_EQ(gguf_tokenizer_json(JsonObject{{"tokenizer.huggingface.json", "{ }"},
                                           {"tokenizer.ggml.model", "bert"}}),
            "{ }");
}

// ---- SentencePiece --------------------------------------------------------------------------

constexpr std::string_view kBlank = "\u2581";

// <unk>, <s>, </s>, the 256 bytes, the letters a to d and the blank, then pieces of two to five
// characters whose scores fall with their ids, as training leaves them.
class SentencePiece : public testing::Test {
 protected:
  SentencePiece() {
    add("<unk>", 0.0, 2);
    add("<s>", 0.0, 3);
    add("</s>", 0.0, 3);
    for (int byte = 0; byte < 256; ++byte) add(format("<0x{:02X}>", byte), 0.0, 6);
    // Each piece is made of two earlier ones, in an order that is random but always the same.
    std::vector<std::string> made = {"a", "b", "c", "d", std::string(kBlank)};
    std::mt19937 random(3);
    while (made.size() < 60) {
      const std::string piece = made[random() % made.size()] + made[random() % made.size()];
      if (std::find(made.begin(), made.end(), piece) == made.end()) made.push_back(piece);
    }
    for (size_t i = 5; i < made.size(); ++i) add(made[i], -static_cast<double>(i), 1);
    for (size_t i = 0; i < 5; ++i) add(made[i], -1000.0 - static_cast<double>(i), 1);
  }

  void add(const std::string& token, double score, int64_t type) {
    ids_.emplace(token, static_cast<TokenId>(tokens_.size()));
    tokens_.emplace_back(token);
    scores_.emplace_back(score);
    types_.emplace_back(type);
  }
  JsonValue metadata() const {
    JsonValue all =
        JsonObject{{"tokenizer.ggml.model", "llama"},     {"tokenizer.ggml.tokens", tokens_},
                   {"tokenizer.ggml.token_type", types_}, {"tokenizer.ggml.scores", scores_},
                   {"tokenizer.ggml.bos_token_id", 1},    {"tokenizer.ggml.eos_token_id", 2},
                   {"tokenizer.ggml.unknown_token_id", 0}};
    for (const auto& [key, value] : extra_.object()) all.set(key, value);
    return all;
  }

  // The yardstick: join the neighbours whose joint piece scores best, leftmost first, until none
  // can be joined; what is no token then becomes its bytes.
  std::vector<TokenId> encoded_plainly(std::string_view text) const {
    std::vector<std::string> parts;
    for (size_t i = 0; i < text.size();) {
      size_t end = i + 1;
      while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) ++end;
      const std::string character(text.substr(i, end - i));
      parts.push_back(character == " " ? std::string(kBlank) : character);
      i = end;
    }
    if (!parts.empty()) parts.insert(parts.begin(), std::string(kBlank));
    for (size_t best = best_pair(parts); best < parts.size(); best = best_pair(parts)) {
      parts[best] += parts[best + 1];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    std::vector<TokenId> ids;
    for (const std::string& part : parts) {
      if (const auto found = ids_.find(part); found != ids_.end()) {
        ids.push_back(found->second);
      } else {
        for (const char byte : part) ids.push_back(3 + static_cast<unsigned char>(byte));
      }
    }
    return ids;
  }

  const bool has_text_ = has_text();
  JsonArray tokens_;
  JsonArray scores_;
  JsonArray types_;
  JsonValue extra_ = JsonObject{};

 private:
  size_t best_pair(const std::vector<std::string>& parts) const {
    size_t best = parts.size();
    double best_score = -std::numeric_limits<double>::infinity();
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto found = ids_.find(parts[i] + parts[i + 1]);
      if (found == ids_.end()) continue;
      const double score = scores_[static_cast<size_t>(found->second)].number();
      if (score > best_score) {
        best = i;
        best_score = score;
      }
    }
    return best;
  }

  std::unordered_map<std::string, TokenId> ids_;
};

TEST_F(SentencePiece, RandomTextIsCutAsScoresSay) {
  if (!has_text()) GTEST_SKIP() << "built with TIDEMILL_TEXT=OFF";
  const auto tokenizer = tokenizer_of(metadata());
  const char* const characters[] = {"a", "b", "c", "d", " ", "\u00e9", "\n"};
  std::mt19937 random(4);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (size_t i = random() % 24; i > 0; --i) {
      text += characters[random() % (random() % 8 == 0 ? 7 : 5)];
    }
    const auto ids = tokenizer->encode(text, kPlain);
    ASSERT_TRUE(ids);
    ASSERT_EQ(*ids, encoded_plainly(text)) << "\"" << text << "\", round " << round;
    ASSERT_EQ(tokenizer->decode(*ids, true), text);
  }
}

TEST_F(SentencePiece, BeginIsAddedUnlessTheFileSaysOtherwise) {
  if (!has_text()) GTEST_SKIP() << "built with TIDEMILL_TEXT=OFF";
  EXPECT_EQ(tokenizer_of(metadata())->encode("a", {})->front(), 1);
  extra_.set("tokenizer.ggml.add_bos_token", false);
  EXPECT_NE(tokenizer_of(metadata())->encode("a", {})->front(), 1);
}

TEST_F(SentencePiece, WithoutASpacePrefixTextIsKeptAsItIs) {
  if (!has_text()) GTEST_SKIP() << "built with TIDEMILL_TEXT=OFF";
  extra_.set("tokenizer.ggml.add_space_prefix", false);
  const auto tokenizer = tokenizer_of(metadata());
  const auto ids = *tokenizer->encode("a", kPlain);
  EXPECT_THAT(ids, ElementsAre(*tokenizer->find("a")));
  const auto with_blank = *tokenizer->encode(" a", kPlain);
  EXPECT_EQ(tokenizer->decode(with_blank, true), " a");
}

TEST_F(SentencePiece, PlainTextNeverMergesIntoAControlToken) {
  if (!has_text()) GTEST_SKIP() << "built with TIDEMILL_TEXT=OFF";
  for (const char* piece : {"<", "s", ">", "s>"}) add(piece, -2000.0, 1);
  scores_[1] = 5.0;
  extra_.set("tokenizer.ggml.add_space_prefix", false);
  const auto tokenizer = tokenizer_of(metadata());
  EXPECT_THAT(*tokenizer->encode("<s>", kPlain), Not(Contains(1)));
  EXPECT_THAT(*tokenizer->encode("<s>", {.add_special_tokens = false}), ElementsAre(1));
}

TEST_F(SentencePiece, ScoresAreFiniteAndAsManyAsTokens) {
  const JsonArray good = scores_;
  scores_.pop_back();
  EXPECT_THAT(refusal(metadata()), HasSubstr("scores is missing or differs from tokens in length"));
  for (const JsonValue& wrong :
       {JsonValue("0"), JsonValue(), JsonValue(std::numeric_limits<double>::quiet_NaN()),
        JsonValue(std::numeric_limits<double>::infinity())}) {
    scores_ = good;
    scores_[300] = wrong;
    EXPECT_THAT(refusal(metadata()), HasSubstr("scores must be finite numbers"));
  }
}

TEST_F(SentencePiece, RandomDamageIsATokenizerOrRefused) {
  const std::string valid = to_json(metadata());
  std::mt19937 random(5);
  int refused = 0;
  int accepted = 0;
  for (int round = 0; round < 3000; ++round) {
    const auto changed = parse_json(damaged(valid, valid.size(), random), kFileJsonLimits);
    if (!changed) continue;
    try {
      const std::string json = gguf_tokenizer_json(*changed).value_or("");
      ++accepted;
      if (has_text_ && !json.empty()) (void)Tokenizer(json).encode("a <s> \u00e9", {});
    } catch (const CheckpointError&) {
      ++refused;
    } catch (const std::runtime_error&) {
      // The library's own refusal.
    }
  }
  EXPECT_GT(refused, 100);
  EXPECT_GT(accepted, 100);
}

// ---- A real model's ---------------------------------------------------------------------------

class SmolLm2Gguf : public testing::Test {
 protected:
  void SetUp() override {
    for (const fs::path& path : {file_, published_, vectors_}) SKIP_WITHOUT(path);
    metadata_ = Checkpoint::open(file_).gguf_metadata();
  }

  const fs::path file_ = models_folder() / "SmolLM2-135M-Instruct.Q4_1.gguf";
  const fs::path published_ = models_folder() / "hf-f32/tokenizer.json";
  const fs::path vectors_ = shared_folder() / "reference/smollm2/tokenizer-vectors.json";
  JsonValue metadata_;
};

TEST_F(SmolLm2Gguf, BecomesThePublishedTokenizer) {
  const JsonValue ours = json_of(metadata_);
  const JsonValue theirs = *parse_json(read_file(published_), kFileJsonLimits);
  for (const char* key : {"version", "normalizer", "pre_tokenizer", "post_processor"}) {
    EXPECT_EQ(*ours.find(key), *theirs.find(key)) << key;
  }
  EXPECT_EQ(*ours.find("added_tokens"), *theirs.find("added_tokens"));
  const JsonValue& model = *ours.find("model");
  for (const char* key : {"type", "merges", "ignore_merges", "byte_fallback", "unk_token"}) {
    EXPECT_TRUE(*model.find(key) == *theirs.find("model")->find(key)) << key;
  }
  std::unordered_map<std::string, int64_t> published;
  for (const auto& [token, id] : theirs.find("model")->find("vocab")->object()) {
    published.emplace(token, id.integer());
  }
  EXPECT_EQ(model.find("vocab")->object().size(), published.size());
  for (const auto& [token, id] : model.find("vocab")->object()) {
    ASSERT_EQ(published.at(token), id.integer()) << token;
  }
}

TEST_F(SmolLm2Gguf, EncodesAndDecodesAsTheReferenceDoes) {
  if (!has_text()) GTEST_SKIP() << "built with TIDEMILL_TEXT=OFF";
  const auto tokenizer = tokenizer_of(metadata_);
  const JsonValue vectors = *parse_json(read_file(vectors_), kFileJsonLimits);
  ASSERT_GT(vectors.array().size(), 50u);
  for (const JsonValue& vector : vectors.array()) {
    const std::string& text = vector.find("text")->string();
    const auto ids = tokenizer->encode(text, {});
    ASSERT_TRUE(ids) << text;
    EXPECT_EQ(*ids, ids_of(*vector.find("ids"))) << text;
    EXPECT_EQ(tokenizer->decode(*ids, false), vector.find("decoded")->string());
    EXPECT_EQ(tokenizer->decode(*ids, true), vector.find("decoded_without_specials")->string());
  }
}

}  // namespace
}  // namespace tidemill

#include "compiler/gguf_tokenizer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "checkpoint/checkpoint.h"

namespace tidemill {
namespace {

// tokenizer.ggml.token_type
constexpr int64_t kUnknown = 2;
constexpr int64_t kControl = 3;
constexpr int64_t kUserDefined = 4;
constexpr int64_t kByte = 6;

constexpr size_t kMaxTokenBytes = 4096;

[[noreturn]] void fail(std::string_view reason) {
  throw CheckpointError(format("the GGUF file's tokenizer: {}.", reason));
}

struct Vocabulary {
  std::vector<std::string_view> tokens;  // no two alike
  std::unordered_map<std::string_view, size_t> ids;
  std::vector<int64_t> types;  // of every token; 1 (normal) when the file does not say
};

const JsonArray* array_of(const JsonValue& metadata, const char* key) {
  const JsonValue* value = metadata.find(key);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) fail(format("{} must be a list", key));
  return &value->array();
}

Vocabulary read_vocabulary(const JsonValue& metadata) {
  const JsonArray* tokens = array_of(metadata, "tokenizer.ggml.tokens");
  if (tokens == nullptr || tokens->empty()) fail("tokenizer.ggml.tokens is missing");
  Vocabulary vocabulary;
  for (const JsonValue& token : *tokens) {
    if (!token.is_string() || token.string().size() > kMaxTokenBytes) {
      fail(format("tokens must be strings of at most {} bytes", kMaxTokenBytes));
    }
    const size_t id = vocabulary.tokens.size();
    const auto [same, is_new] = vocabulary.ids.emplace(token.string(), id);
    if (!is_new) fail(format("token {} is spelled as token {}", id, same->second));
    vocabulary.tokens.push_back(token.string());
  }
  vocabulary.types.assign(tokens->size(), 1);
  if (const JsonArray* types = array_of(metadata, "tokenizer.ggml.token_type")) {
    if (types->size() != tokens->size()) fail("token_type and tokens differ in length");
    for (size_t i = 0; i < types->size(); ++i) {
      if (!(*types)[i].fits_int64()) fail("token_type must hold integers");
      vocabulary.types[i] = (*types)[i].integer();
    }
  }
  return vocabulary;
}

bool flag(const JsonValue& metadata, const char* key, bool fallback) {
  const JsonValue* value = metadata.find(key);
  return value != nullptr && value->is_bool() ? value->boolean() : fallback;
}

// The id under that key; nullopt when it is absent or -1.
std::optional<int64_t> token_id(const JsonValue& metadata, const char* key, size_t vocab_size) {
  const JsonValue* value = metadata.find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->fits_int64()) fail(format("{} must be an integer", key));
  if (value->integer() < 0) return std::nullopt;
  if (value->integer() >= static_cast<int64_t>(vocab_size)) {
    fail(format("{} is {}, and there are {} tokens", key, value->integer(), vocab_size));
  }
  return value->integer();
}

// Others read these ids later, each where it is used; a wrong one is found here.
void check_ids(const JsonValue& metadata, const Vocabulary& vocabulary) {
  for (const char* key :
       {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
        "tokenizer.ggml.eom_token_id", "tokenizer.ggml.unknown_token_id",
        "tokenizer.ggml.padding_token_id", "tokenizer.ggml.seperator_token_id"}) {
    token_id(metadata, key, vocabulary.tokens.size());
  }
}

JsonValue vocabulary_object(const Vocabulary& vocabulary) {
  JsonObject object;
  object.reserve(vocabulary.tokens.size());
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    object.emplace_back(std::string(vocabulary.tokens[id]), static_cast<int64_t>(id));
  }
  return object;
}

// Control tokens and those that a user defined are matched in text before anything else.
JsonValue added_tokens(const Vocabulary& vocabulary) {
  JsonArray added;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const int64_t type = vocabulary.types[id];
    if (type != kControl && type != kUserDefined && type != kUnknown) continue;
    added.push_back(JsonObject{{"id", static_cast<int64_t>(id)},
                               {"content", std::string(vocabulary.tokens[id])},
                               {"single_word", false},
                               {"lstrip", false},
                               {"rstrip", false},
                               {"normalized", false},
                               {"special", type != kUserDefined}});
  }
  return added;
}

// What is put in front of (behind) every text: begin and end of sequence, where the file says so.
JsonValue post_processor(const JsonValue& metadata, const Vocabulary& vocabulary,
                         bool begin_first) {
  JsonArray single;
  JsonValue special_tokens = JsonObject{};
  const auto add = [&](const char* key) {
    const auto id = token_id(metadata, key, vocabulary.tokens.size());
    if (!id) return;
    const std::string name(vocabulary.tokens[static_cast<size_t>(*id)]);
    single.push_back(JsonObject{{"SpecialToken", JsonObject{{"id", name}, {"type_id", 0}}}});
    special_tokens.set(name, JsonObject{{"id", name},
                                        {"ids", JsonArray{JsonValue(*id)}},
                                        {"tokens", JsonArray{JsonValue(name)}}});
  };
  if (begin_first) add("tokenizer.ggml.bos_token_id");
  single.push_back(JsonObject{{"Sequence", JsonObject{{"id", "A"}, {"type_id", 0}}}});
  if (flag(metadata, "tokenizer.ggml.add_eos_token", false)) add("tokenizer.ggml.eos_token_id");
  if (single.size() == 1) return {};
  return JsonObject{{"type", "TemplateProcessing"},
                    {"single", single},
                    {"pair", single},
                    {"special_tokens", std::move(special_tokens)}};
}

JsonValue byte_level(bool use_regex) {
  return JsonObject{{"type", "ByteLevel"},
                    {"add_prefix_space", false},
                    {"trim_offsets", true},
                    {"use_regex", use_regex}};
}

JsonValue split(const char* regex) {
  return JsonObject{{"type", "Split"},
                    {"pattern", JsonObject{{"Regex", regex}}},
                    {"behavior", "Isolated"},
                    {"invert", false}};
}

JsonValue sequence(JsonArray steps) {
  return JsonObject{{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

JsonValue single_digits() { return JsonObject{{"type", "Digits"}, {"individual_digits", true}}; }

bool is_llama3(std::string_view kind) {
  return kind == "llama-bpe" || kind == "llama3" || kind == "llama-v3";
}
bool is_qwen2(std::string_view kind) { return kind == "qwen2" || kind == "deepseek-r1-qwen"; }

// tokenizer.ggml.pre names the way in which text is cut before merging. The patterns are the ones
// that the models' own tokenizer.json files hold.
JsonValue pre_tokenizer(std::string_view kind) {
  constexpr const char* kLlama3 =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  constexpr const char* kQwen2 =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  if (is_llama3(kind)) {
    return sequence({split(kLlama3), byte_level(false)});
  }
  if (is_qwen2(kind)) {
    return sequence({split(kQwen2), byte_level(false)});
  }
  if (kind == "smollm" || kind == "starcoder" || kind == "refact" || kind == "command-r") {
    return sequence({single_digits(), byte_level(true)});
  }
  if (kind == "default" || kind == "gpt-2" || kind == "gpt2" || kind == "mpt" || kind == "olmo") {
    return byte_level(true);
  }
  fail(format("the pre-tokeniser {} is not supported", kind.substr(0, 40)));
}

std::string pre_tokenizer_name(const JsonValue& metadata) {
  const JsonValue* value = metadata.find("tokenizer.ggml.pre");
  if (value == nullptr) {
    log_warning(
        "the GGUF file does not say how its tokenizer cuts text (tokenizer.ggml.pre is missing); "
        "it is cut as GPT-2 does");
    return "default";
  }
  if (!value->is_string()) fail("tokenizer.ggml.pre must be a string");
  return value->string();
}

JsonValue bpe_model(JsonValue vocabulary, JsonArray merges, bool byte_fallback, JsonValue unknown) {
  return JsonObject{{"type", "BPE"},
                    {"dropout", JsonValue()},
                    {"unk_token", std::move(unknown)},
                    {"continuing_subword_prefix", JsonValue()},
                    {"end_of_word_suffix", JsonValue()},
                    {"fuse_unk", byte_fallback},
                    {"byte_fallback", byte_fallback},
                    {"ignore_merges", false},
                    {"vocab", std::move(vocabulary)},
                    {"merges", std::move(merges)}};
}

// Byte-level pieces hold no blank, so that the one between them is the only one.
void check_merge(const JsonValue& merge, const Vocabulary& vocabulary) {
  const std::string_view text = merge.is_string() ? std::string_view(merge.string()) : "";
  const size_t blank = std::min(text.find(' '), text.size());
  const std::string_view left = text.substr(0, blank);
  const std::string_view right = text.substr(std::min(blank + 1, text.size()));
  if (left.empty() || right.empty() || right.find(' ') != std::string_view::npos) {
    fail("merges must be strings of two pieces with a blank between them");
  }
  const std::string whole = std::string(left) + std::string(right);
  for (const std::string_view piece : {left, right, std::string_view(whole)}) {
    if (!vocabulary.ids.contains(piece)) {
      fail(format("merge \"{}\" names a piece that is no token", text));
    }
  }
}

// "gpt2": byte-level BPE with its merges.
JsonValue byte_level_tokenizer(const JsonValue& metadata, const Vocabulary& vocabulary) {
  const JsonArray* merges = array_of(metadata, "tokenizer.ggml.merges");
  if (merges == nullptr) fail("tokenizer.ggml.merges is missing");
  for (const JsonValue& merge : *merges) check_merge(merge, vocabulary);
  const std::string kind = pre_tokenizer_name(metadata);
  JsonValue model = bpe_model(vocabulary_object(vocabulary), *merges, false, JsonValue());
  // Llama 3: a piece that is a token is one, whatever the merges say.
  if (is_llama3(kind)) model.set("ignore_merges", true);
  const bool begin_first = flag(metadata, "tokenizer.ggml.add_bos_token", is_llama3(kind));
  // The metadata have no word for it; the models' own tokenizer.json composes characters first.
  JsonValue normalizer;
  if (is_qwen2(kind)) normalizer = JsonObject{{"type", "NFC"}};
  return JsonObject{{"version", "1.0"},
                    {"truncation", JsonValue()},
                    {"padding", JsonValue()},
                    {"added_tokens", added_tokens(vocabulary)},
                    {"normalizer", std::move(normalizer)},
                    {"pre_tokenizer", pre_tokenizer(kind)},
                    {"post_processor", post_processor(metadata, vocabulary, begin_first)},
                    {"decoder", byte_level(true)},
                    {"model", std::move(model)}};
}

std::vector<double> read_scores(const JsonValue& metadata, size_t vocab_size) {
  const JsonArray* scores = array_of(metadata, "tokenizer.ggml.scores");
  if (scores == nullptr || scores->size() != vocab_size) {
    fail("tokenizer.ggml.scores is missing or differs from tokens in length");
  }
  std::vector<double> numbers;
  for (const JsonValue& score : *scores) {
    if (!score.is_number() || !std::isfinite(score.number())) fail("scores must be finite numbers");
    numbers.push_back(score.number());
  }
  return numbers;
}

// A SentencePiece BPE model has no list of merges: a piece may be made of any two pieces, and the
// better score goes first. Every split of every piece into two pieces, ordered by the score of the
// whole, then by the ids of the parts.
JsonArray merges_from_scores(const Vocabulary& vocabulary, const std::vector<double>& scores) {
  struct Merge {
    size_t whole, left, right;
  };
  std::vector<Merge> merges;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const std::string_view token = vocabulary.tokens[id];
    // Text that spells a control token must not become one by merging.
    const int64_t type = vocabulary.types[id];
    if (type == kControl || type == kUnknown || type == kByte) continue;
    for (size_t cut = 1; cut < token.size(); ++cut) {
      if ((static_cast<unsigned char>(token[cut]) & 0xc0) == 0x80) continue;  // inside a character
      const auto left = vocabulary.ids.find(token.substr(0, cut));
      const auto right = vocabulary.ids.find(token.substr(cut));
      if (left != vocabulary.ids.end() && right != vocabulary.ids.end()) {
        merges.push_back({id, left->second, right->second});
      }
    }
  }
  std::stable_sort(merges.begin(), merges.end(), [&](const Merge& a, const Merge& b) {
    if (scores[a.whole] != scores[b.whole]) return scores[a.whole] > scores[b.whole];
    return std::pair(a.left, a.right) < std::pair(b.left, b.right);
  });
  JsonArray list;
  for (const Merge& merge : merges) {
    list.push_back(JsonArray{JsonValue(std::string(vocabulary.tokens[merge.left])),
                             JsonValue(std::string(vocabulary.tokens[merge.right]))});
  }
  return list;
}

constexpr const char* kSpace = "\u2581";  // what SentencePiece writes for a blank

JsonValue replace(const char* what, const char* by) {
  return JsonObject{
      {"type", "Replace"}, {"pattern", JsonObject{{"String", what}}}, {"content", by}};
}

JsonValue sentencepiece_normalizer(bool prefix) {
  JsonArray steps;
  if (prefix) steps.push_back(JsonObject{{"type", "Prepend"}, {"prepend", kSpace}});
  steps.push_back(replace(" ", kSpace));
  return JsonObject{{"type", "Sequence"}, {"normalizers", std::move(steps)}};
}

JsonValue sentencepiece_decoder(bool prefix) {
  JsonArray steps{replace(kSpace, " "), JsonObject{{"type", "ByteFallback"}},
                  JsonObject{{"type", "Fuse"}}};
  if (prefix) {
    steps.push_back(JsonObject{{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  return JsonObject{{"type", "Sequence"}, {"decoders", std::move(steps)}};
}

// "llama": SentencePiece BPE with byte tokens for what it does not know.
JsonValue sentencepiece_tokenizer(const JsonValue& metadata, const Vocabulary& vocabulary) {
  const auto scores = read_scores(metadata, vocabulary.tokens.size());
  const auto unknown =
      token_id(metadata, "tokenizer.ggml.unknown_token_id", vocabulary.tokens.size());
  const bool prefix = flag(metadata, "tokenizer.ggml.add_space_prefix", true);
  const bool begin_first = flag(metadata, "tokenizer.ggml.add_bos_token", true);
  JsonValue unknown_token;
  if (unknown) unknown_token = std::string(vocabulary.tokens[static_cast<size_t>(*unknown)]);
  return JsonObject{
      {"version", "1.0"},
      {"truncation", JsonValue()},
      {"padding", JsonValue()},
      {"added_tokens", added_tokens(vocabulary)},
      {"normalizer", sentencepiece_normalizer(prefix)},
      {"pre_tokenizer", JsonValue()},
      {"post_processor", post_processor(metadata, vocabulary, begin_first)},
      {"decoder", sentencepiece_decoder(prefix)},
      {"model", bpe_model(vocabulary_object(vocabulary), merges_from_scores(vocabulary, scores),
                          true, std::move(unknown_token))}};
}

}  // namespace

std::optional<std::string> gguf_tokenizer_json(const JsonValue& metadata) {
  if (const JsonValue* whole = metadata.find("tokenizer.huggingface.json");
      whole != nullptr && whole->is_string()) {
    return whole->string();
  }
  const JsonValue* model = metadata.find("tokenizer.ggml.model");
  if (model == nullptr) return std::nullopt;
  if (!model->is_string()) fail("tokenizer.ggml.model must be a string");
  const std::string& kind = model->string();
  if (kind == "no_vocab" || kind == "none") return std::nullopt;
  if (kind != "gpt2" && kind != "llama") {
    fail(format("kind {} is not supported; gpt2 and llama are", kind.substr(0, 40)));
  }
  const Vocabulary vocabulary = read_vocabulary(metadata);
  check_ids(metadata, vocabulary);
  return to_json(kind == "gpt2" ? byte_level_tokenizer(metadata, vocabulary)
                                : sentencepiece_tokenizer(metadata, vocabulary));
}

}  // namespace tidemill

#include "compiler/text_files.h"

#include <algorithm>
#include <stdexcept>
#include <string_view>

#include "base/check.h"
#include "base/log.h"
#include "compiler/gguf_tokenizer.h"

namespace tidemill {
namespace {

constexpr std::string_view kSpecialNames[] = {"bos_token", "eos_token", "unk_token", "pad_token",
                                              "sep_token", "cls_token", "mask_token"};
// The same roles in GGUF metadata, where the file gives ids.
struct GgufSpecial {
  std::string_view key;
  std::string_view name;
};
constexpr GgufSpecial kGgufSpecials[] = {
    {"tokenizer.ggml.bos_token_id", "bos_token"},
    {"tokenizer.ggml.eos_token_id", "eos_token"},
    {"tokenizer.ggml.unknown_token_id", "unk_token"},
    {"tokenizer.ggml.padding_token_id", "pad_token"},
    {"tokenizer.ggml.seperator_token_id", "sep_token"},  // spelled so in the format
};
// Tokens that end a turn of a conversation. Many checkpoints list them nowhere as end ids; where
// the chat template writes one, generation ends with it.
constexpr std::string_view kTurnEnds[] = {"<|im_end|>",    "<|eot_id|>", "<|eom_id|>",
                                          "<end_of_turn>", "<|end|>",    "<|end_of_turn|>"};
constexpr std::string_view kGenerationDefaults[] = {
    "do_sample", "temperature",        "top_k",          "top_p",       "min_p",
    "typical_p", "repetition_penalty", "max_new_tokens", "stop_strings"};

// A JSON file of the folder; null when there is none.
JsonValue side_json(const Checkpoint& checkpoint, std::string_view name) {
  const std::optional<std::string> text = checkpoint.side_file(name);
  if (!text) return {};
  Result<JsonValue> value = parse_json(*text, kFileJsonLimits);
  if (!value || !value->is_object()) {
    throw std::runtime_error(format("{}/{}: {}", checkpoint.path().string(), name,
                                    value ? "must be a JSON object" : value.error().message));
  }
  return std::move(*value);
}

// A special token is a string, or an object that describes it.
std::optional<std::string> spelling_in(const JsonValue& object, std::string_view name) {
  const JsonValue* token = object.find(name);
  if (token != nullptr && token->is_object()) token = token->find("content");
  if (token == nullptr || !token->is_string()) return {};
  return token->string();
}

// null is an answer, too: there is no such token, whatever other files say.
bool says_none(const JsonValue& object, std::string_view name) {
  const JsonValue* token = object.find(name);
  return token != nullptr && token->is_null();
}

// The spellings and ids of a tokenizer.json.
class TokenizerTokens {
 public:
  explicit TokenizerTokens(const std::optional<std::string>& tokenizer_json) {
    if (!tokenizer_json) return;
    Result<JsonValue> value = parse_json(*tokenizer_json, kFileJsonLimits);
    if (!value) {
      throw std::runtime_error(format("tokenizer.json: {}", value.error().message));
    }
    tokenizer_ = std::move(*value);
  }

  std::optional<TokenId> find(std::string_view spelling) const {
    if (const std::optional<TokenId> id = find_special(spelling)) return id;
    const JsonValue* model = tokenizer_.find("model");
    const JsonValue* vocab = model == nullptr ? nullptr : model->find("vocab");
    return vocab == nullptr ? std::nullopt : as_id(vocab->find(spelling));
  }
  // Among the added tokens only.
  std::optional<TokenId> find_special(std::string_view spelling) const {
    for (const JsonValue& token : added()) {
      const JsonValue* content = token.find("content");
      if (content != nullptr && *content == JsonValue(std::string(spelling))) {
        return as_id(token.find("id"));
      }
    }
    return {};
  }
  // -1 when there are none.
  int64_t largest_id() const {
    int64_t largest = -1;
    for (const JsonValue& token : added()) {
      largest = std::max<int64_t>(largest, as_id(token.find("id")).value_or(-1));
    }
    const JsonValue* model = tokenizer_.find("model");
    const JsonValue* vocab = model == nullptr ? nullptr : model->find("vocab");
    if (vocab != nullptr && vocab->is_array()) {  // Unigram: ids are places
      largest = std::max(largest, static_cast<int64_t>(vocab->array().size()) - 1);
    }
    if (vocab != nullptr && vocab->is_object()) {
      for (const auto& [spelling, id] : vocab->object()) {
        largest = std::max<int64_t>(largest, as_id(&id).value_or(-1));
      }
    }
    return largest;
  }
  std::optional<std::string> special_spelling(TokenId id) const {
    for (const JsonValue& token : added()) {
      if (as_id(token.find("id")) == id) return spelling_in(token, "content");
    }
    return {};
  }

 private:
  const JsonArray& added() const {
    static const JsonArray kNone;
    const JsonValue* tokens = tokenizer_.find("added_tokens");
    return tokens != nullptr && tokens->is_array() ? tokens->array() : kNone;
  }
  static std::optional<TokenId> as_id(const JsonValue* value) {
    constexpr int64_t kMaxId = int64_t{1} << 30;
    if (value == nullptr || !value->fits_int64() || value->integer() < 0) return {};
    if (value->integer() > kMaxId) return {};
    return static_cast<TokenId>(value->integer());
  }
  JsonValue tokenizer_;
};

// A string, or a list of named ones of which "default" is meant. A file of its own wins.
std::optional<std::string> chat_template_of(const Checkpoint& checkpoint,
                                            const JsonValue& tokenizer_config) {
  if (std::optional<std::string> file = checkpoint.side_file("chat_template.jinja")) return file;
  const JsonValue* value = tokenizer_config.find("chat_template");
  if (value == nullptr || value->is_null()) return {};
  if (value->is_string()) return value->string();
  if (value->is_array()) {
    for (const JsonValue& named : value->array()) {
      const JsonValue* name = named.find("name");
      if (name != nullptr && *name == JsonValue("default")) return spelling_in(named, "template");
    }
  }
  log_warning(
      "{}: none of the chat templates in tokenizer_config.json is named default; chat "
      "needs one to be given",
      checkpoint.path().string());
  return {};
}

JsonValue special_tokens_of(const Checkpoint& checkpoint, const JsonValue& tokenizer_config,
                            const TokenizerTokens& vocabulary, const Architecture& architecture) {
  const JsonValue map = side_json(checkpoint, "special_tokens_map.json");
  JsonValue special = JsonObject{};
  for (const std::string_view name : kSpecialNames) {
    if (says_none(tokenizer_config, name)) continue;
    std::optional<std::string> spelling = spelling_in(tokenizer_config, name);
    if (!spelling) spelling = spelling_in(map, name);
    if (!spelling && name == "bos_token" && architecture.bos_token_id) {
      spelling = vocabulary.special_spelling(*architecture.bos_token_id);
    }
    if (!spelling && name == "eos_token" && !architecture.eos_token_ids.empty()) {
      spelling = vocabulary.special_spelling(architecture.eos_token_ids.front());
    }
    if (spelling) special.set(name, *spelling);
  }
  return special;
}

JsonValue generation_defaults_of(const JsonValue& generation_config) {
  JsonValue defaults = JsonObject{};
  for (const std::string_view key : kGenerationDefaults) {
    const JsonValue* value = generation_config.find(key);
    if (value != nullptr && !value->is_null()) defaults.set(key, *value);
  }
  return defaults;
}

void say_if_no_tokenizer(const Checkpoint& checkpoint) {
  for (const std::string_view name : {"tokenizer.model", "spiece.model", "vocab.json"}) {
    if (!checkpoint.side_file(name)) continue;
    log_warning(
        "{}: {} is not read; without a tokenizer.json the model serves token ids only. "
        "Save the tokenizer with a current version of transformers to get one",
        checkpoint.path().string(), name);
    return;
  }
}

void add_hugging_face_text(const Checkpoint& checkpoint, const Architecture& architecture,
                           const TokenizerTokens& vocabulary, TextFiles& files) {
  const JsonValue config = side_json(checkpoint, "tokenizer_config.json");
  files.chat_template = chat_template_of(checkpoint, config);
  files.special_tokens = special_tokens_of(checkpoint, config, vocabulary, architecture);
  files.generation_defaults = generation_defaults_of(checkpoint.generation_config());
}

void add_gguf_text(const JsonValue& metadata, TextFiles& files) {
  files.special_tokens = JsonObject{};
  files.generation_defaults = JsonObject{};
  if (const JsonValue* source = metadata.find("tokenizer.chat_template")) {
    if (source->is_string()) files.chat_template = source->string();
  }
  const JsonValue* tokens = metadata.find("tokenizer.ggml.tokens");
  for (const GgufSpecial& special : kGgufSpecials) {
    const JsonValue* id = metadata.find(special.key);
    if (id == nullptr || !id->fits_int64() || tokens == nullptr || !tokens->is_array()) continue;
    const auto index = static_cast<uint64_t>(id->integer());
    if (index < tokens->array().size() && tokens->array()[index].is_string()) {
      files.special_tokens.set(special.name, tokens->array()[index]);
    }
  }
}

std::optional<std::string> tokenizer_of(const Checkpoint& checkpoint) {
  if (checkpoint.format() == CheckpointFormat::kGguf) {
    return gguf_tokenizer_json(checkpoint.gguf_metadata());
  }
  std::optional<std::string> tokenizer = checkpoint.side_file("tokenizer.json");
  if (!tokenizer) say_if_no_tokenizer(checkpoint);
  return tokenizer;
}

// Text that holds such a token is refused when a request brings it: the network has no row for it.
void say_ids_without_rows(const Checkpoint& checkpoint, const TokenizerTokens& vocabulary,
                          const Architecture& architecture) {
  const int64_t largest = vocabulary.largest_id();
  if (largest < architecture.vocab_size) return;
  log_warning(
      "{}: the tokenizer has ids up to {}, and the network ids up to {}: text with the others will "
      "be refused",
      checkpoint.path().string(), largest, architecture.vocab_size - 1);
}

// Collects end ids without repetition, each from 0 to vocab_size - 1.
class EndIds {
 public:
  EndIds(std::vector<TokenId> ids, int64_t vocab_size)
      : ids_(std::move(ids)), vocab_size_(vocab_size) {}

  // An id, a list of ids, or nothing; negative means none.
  void add_all(const JsonValue* value, std::string_view where) {
    if (value == nullptr || value->is_null()) return;
    const JsonArray ids = value->is_array() ? value->array() : JsonArray{*value};
    for (const JsonValue& id : ids) {
      if (!id.fits_int64() || id.integer() >= vocab_size_) {
        throw std::runtime_error(format("{} is {}; it must be a token id from 0 to {}", where,
                                        to_json(id), vocab_size_ - 1));
      }
      if (id.integer() >= 0) add(static_cast<TokenId>(id.integer()));
    }
  }
  void add(std::optional<TokenId> id) {
    if (!id || *id >= vocab_size_ || std::ranges::count(ids_, *id) > 0) return;
    ids_.push_back(*id);
  }
  std::vector<TokenId> take() { return std::move(ids_); }

 private:
  std::vector<TokenId> ids_;
  const int64_t vocab_size_;
};

std::vector<TokenId> end_ids_of(const Checkpoint& checkpoint, const Architecture& architecture,
                                const TokenizerTokens& vocabulary, const TextFiles& files) {
  EndIds ends(architecture.eos_token_ids, architecture.vocab_size);
  ends.add_all(checkpoint.generation_config().find("eos_token_id"),
               "generation_config.json: eos_token_id");
  if (const auto spelling = spelling_in(files.special_tokens, "eos_token")) {
    ends.add(vocabulary.find(*spelling));
  }
  for (const std::string_view token : kTurnEnds) {
    const bool written =
        files.chat_template && files.chat_template->find(token) != std::string::npos;
    if (written) ends.add(vocabulary.find_special(token));
  }
  return ends.take();
}

}  // namespace

CheckpointText collect_text(const Checkpoint& checkpoint, const Architecture& architecture) {
  CheckpointText text;
  text.files.tokenizer_json = tokenizer_of(checkpoint);
  const TokenizerTokens vocabulary(text.files.tokenizer_json);
  if (checkpoint.format() == CheckpointFormat::kGguf) {
    add_gguf_text(checkpoint.gguf_metadata(), text.files);
  } else {
    add_hugging_face_text(checkpoint, architecture, vocabulary, text.files);
  }
  say_ids_without_rows(checkpoint, vocabulary, architecture);
  text.end_token_ids = end_ids_of(checkpoint, architecture, vocabulary, text.files);
  if (text.end_token_ids.empty()) {
    log_warning(
        "{}: no file names a token that ends a text: every answer will be as long as it may",
        checkpoint.path().string());
  }
  return text;
}

}  // namespace tidemill

#include "api/tokenization.h"

#include <algorithm>

#include "api/chat_messages.h"
#include "api/prompt_facts.h"
#include "base/check.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

Error no_tokenizer(const char* field) {
  return {.kind = ErrorKind::kUnsupportedContent,
          .field = field,
          .message = "this model has no tokenizer: it takes token ids alone."};
}

// Which of the three forms a body has (TO-1): "prompt", "messages" or "inputs".
std::string_view form_of(Fields& fields, const JsonValue& body) {
  std::string_view form;
  for (const char* name : {"prompt", "messages", "inputs"}) {
    const JsonValue* value = body.find(name);
    if (value == nullptr || value->is_null()) continue;
    if (!form.empty()) {
      fields.problem(ErrorKind::kInvalidParameter, name,
                     format("{} and {} exclude each other. Send one.", form, name));
      return form;
    }
    form = name;
  }
  if (form.empty()) {
    fields.problem(ErrorKind::kMissingParameter, "prompt",
                   "prompt, messages and inputs are missing; one of them is needed.");
  }
  return form;
}

std::vector<TokenSpelling> spellings(const Tokenizer& tokenizer, std::span<const TokenId> ids) {
  std::vector<TokenSpelling> all;
  for (const TokenId id : ids) {
    all.push_back({tokenizer.token_bytes(id).value_or(""), tokenizer.is_special(id)});
  }
  return all;
}

std::string counted_json(const ModelFacts& facts, std::span<const TokenId> ids,
                         const std::vector<TokenSpelling>* strs) {
  std::string json;
  JsonWriter out(&json);
  out.begin_object().key("count").value(static_cast<int64_t>(ids.size()));
  out.key("max_model_len").value(facts.limits.max_model_len).key("tokens");
  write_ids(out, ids);
  out.key("token_strs");
  if (strs == nullptr) {
    out.null();
  } else {
    out.begin_array();
    for (const TokenSpelling& token : *strs) {
      out.value(completion_spelling(0, token.bytes, token.bytes, false));
    }
    out.end_array();
  }
  out.end_object();
  return json;
}

// TGI's form.
std::string placed_json(std::string_view text, std::span<const TokenId> ids,
                        const std::vector<TokenSpelling>& tokens) {
  const auto places = token_places(text, tokens);
  std::string json;
  JsonWriter out(&json);
  out.begin_array();
  for (size_t i = 0; i < ids.size(); ++i) {
    const bool whole = !first_invalid_utf8(tokens[i].bytes);
    out.begin_object().key("id").value(int64_t{ids[i]});
    out.key("text").value(whole ? tokens[i].bytes : std::string("\ufffd"));
    out.key("start").value(places[i].start).key("stop").value(places[i].stop).end_object();
  }
  out.end_array();
  return json;
}

// Names nobody knows are refused where the server is strict.
Result<std::vector<std::string>> unknown_names(const Fields& fields, const ModelFacts& facts) {
  const auto unread = fields.unread();
  CHECK(unread.empty(), "the row {} is never read", unread.front());
  if (fields.first_problem()) return *fields.first_problem();
  std::vector<std::string> unknown = fields.unknown();
  if (facts.strict_parameters && !unknown.empty()) return Fields::unknown_field(unknown.front());
  return unknown;
}

}  // namespace

std::vector<TokenPlace> token_places(std::string_view text, std::span<const TokenSpelling> tokens) {
  std::vector<TokenPlace> places;
  size_t at = 0;                       // byte
  int64_t point = 0;                   // code points that begin before `at`
  const auto inside_character = [&] {  // `at` stands behind the first byte of one
    return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
  };
  for (const TokenSpelling& token : tokens) {
    std::string_view bytes = token.bytes;
    const std::string_view rest = text.substr(at);
    // Some tokenizers begin a text with a blank of their own.
    if (at == 0 && bytes.starts_with(' ') && !rest.starts_with(' ')) bytes.remove_prefix(1);
    if (token.special && !rest.starts_with(bytes)) bytes = {};
    const size_t width = std::min(bytes.size(), rest.size());
    TokenPlace place{.start = point - (inside_character() ? 1 : 0)};
    for (size_t i = 0; i < width; ++i, ++at) {
      if (!inside_character()) ++point;
    }
    place.stop = width == 0 ? place.start : point;
    places.push_back(place);
  }
  return places;
}

Result<TokenizationAnswer> answer_tokenize(const JsonValue& body, const ModelFacts& facts,
                                           const Executor& executor) {
  Fields fields(body, "", kTokenizeTable, facts.limits);
  fields.text("model");
  const std::string form(form_of(fields, body));
  const auto prompt = fields.text("prompt");
  const auto inputs = fields.text("inputs");
  const auto add_special = fields.boolean("add_special_tokens");
  const bool strs = fields.boolean("return_token_strs").value_or(false);
  const ChatPrompt chat = read_chat_prompt(fields, facts);
  if (form == "messages" && add_special.value_or(false)) {
    fields.problem(ErrorKind::kUnsupportedParameter, "add_special_tokens",
                   "add_special_tokens is not supported with messages: the template writes them.");
  }
  auto unknown = unknown_names(fields, facts);
  if (!unknown) return unknown.error();
  const auto& tokenizer = executor.text().tokenizer;
  if (!tokenizer) return no_tokenizer(form.c_str());

  GenerationFields generation;
  const std::string text = form == "inputs" ? inputs.value_or("") : prompt.value_or("");
  if (form == "messages") {
    generation.prompts.push_back(chat);
  } else {
    generation.prompts.push_back(
        TextPrompt{.text = text, .add_special_tokens = add_special.value_or(true)});
  }
  const auto request =
      GenerationRequest::make(std::move(generation), FieldNames{.prompt = form}, facts.limits);
  if (!request) return request.error();
  const auto ids = executor.encode(*request);
  if (!ids) return ids.error();
  const auto tokens = spellings(*tokenizer, *ids);
  return TokenizationAnswer{.body = form == "inputs"
                                        ? placed_json(text, *ids, tokens)
                                        : counted_json(facts, *ids, strs ? &tokens : nullptr),
                            .ignored_fields = std::move(*unknown)};
}

Result<TokenizationAnswer> answer_detokenize(const JsonValue& body, const ModelFacts& facts,
                                             const Executor& executor) {
  Fields fields(body, "", kDetokenizeTable, facts.limits);
  fields.text("model");
  const auto given = fields.integers("tokens").value_or(std::vector<int64_t>());
  std::vector<TokenId> ids;
  for (size_t i = 0; i < given.size(); ++i) {
    if (given[i] < 0 || given[i] >= facts.limits.vocab_size) {
      const std::string path = format("tokens[{}]", i);
      fields.problem(
          ErrorKind::kInvalidParameter, path,
          format("{} is {}; ids go from 0 to {}.", path, given[i], facts.limits.vocab_size - 1));
      break;
    }
    ids.push_back(static_cast<TokenId>(given[i]));
  }
  auto unknown = unknown_names(fields, facts);
  if (!unknown) return unknown.error();
  const auto& tokenizer = executor.text().tokenizer;
  if (!tokenizer) return no_tokenizer("tokens");
  TokenizationAnswer answer{.ignored_fields = std::move(*unknown)};
  JsonWriter(&answer.body)
      .begin_object()
      .key("prompt")
      .value(tokenizer->decode(ids, /*skip_special_tokens=*/false))
      .end_object();
  return answer;
}

std::string tokenizer_info_json(const ModelFacts& facts, const TextParts& text) {
  std::string json;
  JsonWriter out(&json);
  const auto special = [&](const char* name) -> std::optional<std::string> {
    const JsonValue* spelling = facts.special_tokens.find(name);
    if (spelling == nullptr || !spelling->is_string()) return std::nullopt;
    return spelling->string();
  };
  const auto write = [&](const char* name, const std::optional<std::string>& value) {
    out.key(name);
    value ? out.value(*value) : out.null();
  };
  std::optional<std::string> end = special("eos_token");
  bool adds_begin = false;
  if (text.tokenizer) {
    if (!end && !text.end_ids.empty()) end = text.tokenizer->token_bytes(text.end_ids.front());
    const auto of_nothing = text.tokenizer->encode("", {.add_special_tokens = true});
    adds_begin = text.begin_id && of_nothing && !of_nothing->empty() &&
                 of_nothing->front() == *text.begin_id;
  }
  out.begin_object();
  // An engine directory holds no class name: the tokenizer is its tokenizer.json.
  out.key("tokenizer_class").null();
  write("bos_token", special("bos_token"));
  write("eos_token", end);
  write("unk_token", special("unk_token"));
  write("pad_token", special("pad_token"));
  out.key("add_bos_token").value(adds_begin);
  out.key("model_max_length").value(facts.limits.max_model_len);
  write("chat_template", facts.chat_template);
  out.end_object();
  return json;
}

}  // namespace tidemill

// POST /v1/completions (apis.md 8).
#include <algorithm>

#include "api/answer_facts.h"
#include "api/error.h"
#include "api/openai_common.h"
#include "api/token_pieces.h"
#include "base/check.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

constexpr int64_t kDefaultMaxTokens = 16;

bool all_integers(const JsonArray& items) {
  return std::all_of(items.begin(), items.end(),
                     [](const JsonValue& item) { return whole_number(item).has_value(); });
}

TokenPrompt token_prompt(const JsonArray& ids) {
  TokenPrompt prompt;
  for (const JsonValue& id : ids) {
    // Beyond 32 bits it is outside every vocabulary, and stays outside when cut to -1.
    const int64_t value = *whole_number(id);
    prompt.ids.push_back(value >= 0 && value <= INT32_MAX ? static_cast<TokenId>(value) : -1);
  }
  return prompt;
}

// A string, a list of strings, a list of ids, or a list of lists of ids.
void read_prompts(Fields& fields, bool add_special_tokens, std::vector<Prompt>& prompts) {
  const JsonValue* value = fields.value("prompt");
  if (value == nullptr) {
    fields.problem(ErrorKind::kMissingParameter, "prompt", "prompt is missing.");
    return;
  }
  const auto add_text = [&](const std::string& text) {
    prompts.push_back(TextPrompt{.text = text, .add_special_tokens = add_special_tokens});
  };
  if (value->is_string()) {
    add_text(value->string());
    return;
  }
  const bool is_list = value->is_array() && !value->array().empty();
  if (is_list && all_integers(value->array())) {
    prompts.push_back(token_prompt(value->array()));
    return;
  }
  if (is_list) {
    for (const JsonValue& item : value->array()) {
      const bool same_kind = item.is_string() == value->array().front().is_string();
      if (item.is_string() && same_kind) {
        add_text(item.string());
      } else if (item.is_array() && same_kind && all_integers(item.array())) {
        prompts.push_back(token_prompt(item.array()));
      } else {
        prompts.clear();
        break;
      }
    }
  }
  if (!prompts.empty()) return;
  fields.problem(ErrorKind::kInvalidParameter, "prompt",
                 "prompt must be a string, a list of strings, a list of token ids, or a list of "
                 "such lists, and hold at least one.");
}

struct CompletionShape {
  StreamChoices stream;
  bool echo = false;
  bool logprobs = false;
  bool skip_special_tokens = true;
  int64_t num_choices = 1;  // per prompt
};

class CompletionFormat : public ResponseFormat {
 public:
  CompletionFormat(AnswerFacts facts, const CompletionShape& shape)
      : facts_(std::move(facts)), shape_(shape) {}

  void begin(const ResponseStream& stream) override {
    read_facts(facts_, stream);
    for (int64_t choice = 0; choice < stream.num_choices(); ++choice) {
      echoes_.push_back(shape_.echo ? stream.prompt_text(choice / shape_.num_choices) : "");
      pieces_.emplace_back(shape_.skip_special_tokens,
                           static_cast<int64_t>(count_code_points(echoes_.back())));
    }
    started_.assign(echoes_.size(), false);
  }

  std::string_view content_type() const override {
    return shape_.stream.stream ? kEventStream : kJsonType;
  }

  std::string chunk(std::span<const TextEvent> events) override {
    std::string bytes;
    for (const TextEvent& event : events) {
      const auto choice = static_cast<size_t>(event.choice);
      if (shape_.echo && !started_[choice]) {
        bytes += event_of({.choice = event.choice, .text = echoes_[choice]}, {});
      }
      started_[choice] = true;
      completion_tokens_ += static_cast<int64_t>(event.tokens.size());
      const auto settled = settle(event.choice, event.text, event.tokens, event.finish.has_value());
      if (event.text.empty() && !event.finish && settled.empty()) continue;
      bytes += event_of(event, settled);
    }
    return bytes;
  }

  std::string end(const ResponseStream& stream) override {
    std::string bytes;
    if (shape_.stream.include_usage) {
      read_facts(facts_, stream);
      std::string json;
      JsonWriter out(&json);
      write_head(out);
      out.key("choices").begin_array().end_array();
      out.key("usage");
      write_usage(out, facts_, completion_tokens_);
      out.end_object();
      bytes = sse(json);
    }
    return bytes + std::string(kSseDone);
  }

  std::string stream_error(const Error& error) override {
    return sse(error_answer(error, Dialect::kOpenAi, "").body) + std::string(kSseDone);
  }

  std::string whole(std::span<const TextEvent> events, const ResponseStream& stream) override {
    read_facts(facts_, stream);
    int64_t tokens = 0;
    std::string json;
    JsonWriter out(&json);
    write_head(out);
    out.key("choices").begin_array();
    int64_t index = 0;
    for (const WholeChoice& choice : collect(events, stream.num_choices())) {
      tokens += choice.finish.completion_tokens;
      const auto settled = settle(index, choice.text, choice.tokens, true);
      write_choice(out, index, echoes_[static_cast<size_t>(index)] + choice.text, settled,
                   &choice.finish);
      ++index;
    }
    out.end_array().key("usage");
    write_usage(out, facts_, tokens);
    out.end_object();
    return json;
  }

 private:
  void write_head(JsonWriter& out) const {
    out.begin_object();
    out.key("id").value(facts_.id).key("object").value("text_completion");
    out.key("created").value(facts_.created).key("model").value(facts_.model);
    out.key("system_fingerprint").value(facts_.system_fingerprint);
  }

  // Nothing without log-probabilities: only they tell of tokens.
  std::vector<TokenPiece> settle(int64_t choice, std::string_view text,
                                 std::span<const TokenText> tokens, bool ends) {
    if (!shape_.logprobs) return {};
    return pieces_[static_cast<size_t>(choice)].push(text, tokens, ends);
  }

  std::string event_of(const TextEvent& event, const std::vector<TokenPiece>& settled) {
    std::string json;
    JsonWriter out(&json);
    write_head(out);
    out.key("choices").begin_array();
    write_choice(out, event.choice, event.text, settled, event.finish ? &*event.finish : nullptr);
    out.end_array();
    if (shape_.stream.include_usage) {
      out.key("usage");
      shape_.stream.continuous_usage ? write_usage(out, facts_, completion_tokens_)
                                     : static_cast<void>(out.null());
    }
    out.end_object();
    return sse(json);
  }

  void write_choice(JsonWriter& out, int64_t index, const std::string& text,
                    const std::vector<TokenPiece>& tokens, const Finish* finish) const {
    out.begin_object().key("index").value(index).key("text").value(text).key("logprobs");
    if (!shape_.logprobs || (tokens.empty() && finish == nullptr)) {
      out.null();
    } else {
      write_logprobs(out, tokens);
    }
    out.key("finish_reason");
    if (finish == nullptr) {
      out.null();
    } else {
      out.value(openai_finish(finish->reason)).key("stop_reason");
      write_stop_reason(out, *finish);
    }
    out.end_object();
  }

  // A token is shown by its own bytes, so that it has one text as the chosen one and as another's
  // alternative, a blank in front included. Bytes that are no text alone are shown as such.
  static std::string shown(const std::string& text, const std::string& bytes) {
    if (bytes.empty()) return text;
    if (!first_invalid_utf8(bytes)) return bytes;
    std::string out = "bytes:";
    for (const char c : bytes) {
      out += ::tidemill::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
    return out;
  }

  static void write_logprobs(JsonWriter& out, const std::vector<TokenPiece>& pieces) {
    out.begin_object().key("text_offset").begin_array();
    for (const TokenPiece& piece : pieces) out.value(piece.offset);
    out.end_array().key("token_logprobs").begin_array();
    for (const TokenPiece& piece : pieces) out.value(std::max(piece.token.logprob, kLeastLogprob));
    out.end_array().key("tokens").begin_array();
    for (const TokenPiece& piece : pieces) out.value(shown(piece.token.text, piece.token.bytes));
    out.end_array().key("top_logprobs").begin_array();
    for (const TokenPiece& piece : pieces) write_top(out, piece.token);
    out.end_array().end_object();
  }

  // The best by text; the chosen token is always among them.
  static void write_top(JsonWriter& out, const TokenText& token) {
    std::vector<std::pair<std::string, float>> entries;
    const auto add = [&entries](std::string text, float logprob) {
      for (const auto& entry : entries) {
        if (entry.first == text) return;  // the better one came first
      }
      entries.emplace_back(std::move(text), logprob);
    };
    for (const auto& other : token.top) add(shown(other.text, other.bytes), other.logprob);
    add(shown(token.text, token.bytes), token.logprob);
    out.begin_object();
    for (const auto& [text, logprob] : entries)
      out.key(text).value(std::max(logprob, kLeastLogprob));
    out.end_object();
  }

  AnswerFacts facts_;
  const CompletionShape shape_;
  int64_t completion_tokens_ = 0;
  // Per choice:
  std::vector<TokenPieces> pieces_;
  std::vector<bool> started_;
  std::vector<std::string> echoes_;  // the prompt's text, or nothing
};

int64_t read_logprobs(Fields& fields) {
  const auto count = fields.integer("logprobs");
  if (count && *count < 0) {
    fields.problem(ErrorKind::kInvalidParameter, "logprobs",
                   ::tidemill::format("logprobs is {}; it must be at least 0.", *count));
  }
  return count.value_or(-1);
}

// 0, 1 and n mean n. A stream cannot wait for the best.
void check_best_of(Fields& fields, int64_t num_choices, bool stream) {
  const auto best_of = fields.integer("best_of");
  if (best_of.value_or(0) > 1 && stream) {
    fields.problem(ErrorKind::kInvalidParameter, "best_of",
                   "best_of is not allowed with stream: true. Send one without the other.");
  }
  if (!best_of || *best_of == 0 || *best_of == 1 || *best_of == num_choices) return;
  const bool too_few = *best_of < num_choices;
  fields.problem(too_few ? ErrorKind::kInvalidParameter : ErrorKind::kUnsupportedParameter,
                 "best_of",
                 too_few ? ::tidemill::format("best_of is {}; it must be at least n, which is {}.",
                                              *best_of, num_choices)
                         : "best_of above n is not supported yet. Leave it out.");
}

}  // namespace

Result<ApiCall> parse_openai_completion(const JsonValue& body, const ModelFacts& facts,
                                        const RequestContext& context) {
  Fields fields(body, "");
  GenerationFields generation;
  AnswerFacts answer{.id = answer_id("cmpl-", context),
                     .created = context.created,
                     .model = answer_model(fields, facts),
                     .system_fingerprint = facts.system_fingerprint};
  const bool add_special = fields.boolean("add_special_tokens").value_or(true);
  read_prompts(fields, add_special, generation.prompts);
  read_sampling(fields, facts, generation);
  generation.max_new_tokens = fields.integer("max_tokens");
  if (!generation.max_new_tokens) {
    generation.max_new_tokens = kDefaultMaxTokens;
    generation.clamp_max_new_tokens = true;  // absent: 16, or what is left
  }
  generation.num_logprobs = read_logprobs(fields);
  const bool echo = fields.boolean("echo").value_or(false);
  const StreamChoices stream = read_stream(fields);
  if (echo && generation.num_logprobs >= 0) {
    fields.problem(ErrorKind::kUnsupportedParameter, "echo",
                   "echo with logprobs is not supported yet. Send one without the other.");
  }
  fields.refuse_unless("suffix", "", "Leave it out.");
  check_best_of(fields, generation.num_choices, stream.stream);
  refuse_later_work(fields);
  const CompletionShape shape{.stream = stream,
                              .echo = echo,
                              .logprobs = generation.num_logprobs >= 0,
                              .skip_special_tokens = generation.skip_special_tokens,
                              .num_choices = std::max<int64_t>(generation.num_choices, 1)};
  auto format = std::make_unique<CompletionFormat>(std::move(answer), shape);
  return finish_call(fields, std::move(generation), FieldNames{}, facts, stream, std::move(format));
}

}  // namespace tidemill

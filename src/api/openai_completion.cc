// POST /v1/completions (apis.md 8).
#include <algorithm>

#include "api/answer_facts.h"
#include "api/error.h"
#include "api/openai_common.h"
#include "base/check.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

constexpr int64_t kDefaultMaxTokens = 16;

bool all_integers(const JsonArray& items) {
  return std::all_of(items.begin(), items.end(),
                     [](const JsonValue& item) { return item.is_integer() && item.fits_int64(); });
}

TokenPrompt token_prompt(const JsonArray& ids) {
  TokenPrompt prompt;
  for (const JsonValue& id : ids) {
    // Beyond 32 bits it is outside every vocabulary, and stays outside when cut to -1.
    const int64_t value = id.integer();
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

class CompletionFormat : public ResponseFormat {
 public:
  CompletionFormat(AnswerFacts facts, StreamChoices stream, bool echo, int64_t num_logprobs,
                   int64_t num_choices)
      : facts_(std::move(facts)),
        stream_(stream),
        echo_(echo),
        num_logprobs_(num_logprobs),
        num_choices_(num_choices) {}

  void begin(const ResponseStream& stream) override {
    read_facts(facts_, stream);
    offsets_.assign(static_cast<size_t>(stream.num_choices()), 0);
    started_.assign(static_cast<size_t>(stream.num_choices()), false);
    if (!echo_) return;
    for (int64_t choice = 0; choice < stream.num_choices(); ++choice) {
      echoes_.push_back(stream.prompt_text(choice / num_choices_));
    }
  }

  std::string_view content_type() const override {
    return stream_.stream ? kEventStream : kJsonType;
  }

  std::string chunk(std::span<const TextEvent> events) override {
    std::string bytes;
    for (const TextEvent& event : events) {
      completion_tokens_ += static_cast<int64_t>(event.tokens.size());
      const auto choice = static_cast<size_t>(event.choice);
      if (echo_ && !started_[choice]) {
        bytes += event_of({.choice = event.choice, .text = echoes_[choice]});
      }
      started_[choice] = true;
      if (event.text.empty() && !event.finish && (num_logprobs_ < 0 || event.tokens.empty())) {
        continue;
      }
      bytes += event_of(event);
    }
    return bytes;
  }

  std::string end(const ResponseStream& stream) override {
    std::string bytes;
    if (stream_.include_usage) {
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
    for (WholeChoice& choice : collect(events, stream.num_choices())) {
      tokens += choice.finish.completion_tokens;
      const std::string echo = echo_ ? echoes_[static_cast<size_t>(index)] : std::string();
      write_choice(out, index++, echo + choice.text, choice.tokens, &choice.finish);
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

  std::string event_of(const TextEvent& event) {
    std::string json;
    JsonWriter out(&json);
    write_head(out);
    out.key("choices").begin_array();
    write_choice(out, event.choice, event.text, event.tokens,
                 event.finish ? &*event.finish : nullptr);
    out.end_array();
    if (stream_.include_usage) {
      out.key("usage");
      stream_.continuous_usage ? write_usage(out, facts_, completion_tokens_)
                               : static_cast<void>(out.null());
    }
    out.end_object();
    return sse(json);
  }

  void write_choice(JsonWriter& out, int64_t index, const std::string& text,
                    const std::vector<TokenText>& tokens, const Finish* finish) {
    out.begin_object().key("index").value(index).key("text").value(text).key("logprobs");
    if (num_logprobs_ < 0 || (tokens.empty() && finish == nullptr)) {
      out.null();
    } else {
      write_logprobs(out, tokens, offsets_[static_cast<size_t>(index)]);
    }
    offsets_[static_cast<size_t>(index)] += static_cast<int64_t>(count_code_points(text));
    out.key("finish_reason");
    if (finish == nullptr) {
      out.null();
    } else {
      out.value(openai_finish(finish->reason)).key("stop_reason");
      write_stop_reason(out, *finish);
    }
    out.end_object();
  }

  // Bytes that are no text alone are shown as such.
  static std::string shown(const std::string& text, const std::string& bytes) {
    if (bytes.empty() || !first_invalid_utf8(bytes)) return text.empty() ? bytes : text;
    std::string out = "bytes:";
    for (const char c : bytes) {
      out += ::tidemill::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
    return out;
  }

  void write_logprobs(JsonWriter& out, const std::vector<TokenText>& tokens, int64_t offset) const {
    out.begin_object().key("text_offset").begin_array();
    for (const TokenText& token : tokens) {
      out.value(offset);
      if (!token.special) offset += static_cast<int64_t>(count_code_points(token.text));
    }
    out.end_array().key("token_logprobs").begin_array();
    for (const TokenText& token : tokens) out.value(std::max(token.logprob, -9999.0f));
    out.end_array().key("tokens").begin_array();
    for (const TokenText& token : tokens) out.value(shown(token.text, token.bytes));
    out.end_array().key("top_logprobs").begin_array();
    for (const TokenText& token : tokens) write_top(out, token);
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
    for (const auto& [text, logprob] : entries) out.key(text).value(std::max(logprob, -9999.0f));
    out.end_object();
  }

  AnswerFacts facts_;
  const StreamChoices stream_;
  const bool echo_;
  const int64_t num_logprobs_;
  const int64_t num_choices_;
  int64_t completion_tokens_ = 0;
  std::vector<int64_t> offsets_;  // code points of each choice so far
  std::vector<bool> started_;
  std::vector<std::string> echoes_;  // the prompt's text per choice
};

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
  generation.num_logprobs = fields.integer("logprobs").value_or(-1);
  const bool echo = fields.boolean("echo").value_or(false);
  const StreamChoices stream = read_stream(fields);
  if (echo && generation.num_logprobs >= 0) {
    fields.problem(ErrorKind::kUnsupportedParameter, "echo",
                   "echo with logprobs is not supported yet. Send one without the other.");
  }
  fields.refuse_unless("suffix", "", "Leave it out.");
  const auto best_of = fields.integer("best_of").value_or(generation.num_choices);
  if (best_of > 1 && best_of != generation.num_choices) {
    fields.problem(ErrorKind::kUnsupportedParameter, "best_of",
                   "best_of other than n is not supported yet. Leave it out.");
  }
  refuse_later_work(fields);
  auto format =
      std::make_unique<CompletionFormat>(std::move(answer), stream, echo, generation.num_logprobs,
                                         std::max<int64_t>(generation.num_choices, 1));
  return finish_call(fields, std::move(generation), FieldNames{}, facts, stream.stream,
                     std::move(format));
}

}  // namespace tidemill

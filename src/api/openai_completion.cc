// POST /v1/completions (apis.md 8).
#include <algorithm>

#include "api/answer_facts.h"
#include "api/openai_common.h"
#include "api/prompt_facts.h"
#include "api/token_pieces.h"
#include "base/check.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

constexpr int64_t kDefaultMaxTokens = 16;
constexpr std::string_view kObject = "text_completion";  // whole answers and events alike

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
  if (value == nullptr) return;  // the table refused it
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
  AnswerExtras extras;
  bool echo = false;
  int64_t num_logprobs = -1;  // -1: none
  bool skip_special_tokens = true;
  bool best_of = false;     // more are generated than are shown
  int64_t num_choices = 1;  // per prompt
};

class CompletionFormat : public ResponseFormat {
 public:
  CompletionFormat(AnswerFacts facts, const CompletionShape& shape)
      : facts_(std::move(facts)), shape_(shape) {}

  void begin(const ResponseStream& stream) override {
    stream_ = &stream;
    read_facts(facts_, stream);
    for (int64_t choice = 0; choice < stream.num_choices(); ++choice) {
      echoes_.push_back(shape_.echo ? stream.prompt_text(prompt_of(choice)) : "");
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
      if (waits_for_prompt(event)) {
        waiting_.push_back(event);
        continue;
      }
      bytes += events_of(event);
      // Now the prompt's lists are there: what waited for them is written.
      std::vector<TextEvent> others = std::move(waiting_);
      waiting_.clear();
      for (TextEvent& other : others) {
        if (waits_for_prompt(other)) {
          waiting_.push_back(std::move(other));
        } else {
          bytes += events_of(other);
        }
      }
    }
    return bytes;
  }

  std::string end(const ResponseStream& stream) override {
    read_facts(facts_, stream);
    return openai_stream_end(kObject, shape_.stream, facts_, completion_tokens_);
  }

  std::string stream_error(const Error& error) override { return openai_stream_error(error); }

  std::string whole(std::span<const TextEvent> events, const ResponseStream& stream) override {
    read_facts(facts_, stream);
    int64_t tokens = 0;
    std::string json;
    JsonWriter out(&json);
    write_openai_head(out, facts_, kObject);
    out.key("choices").begin_array();
    int64_t index = 0;
    for (const WholeChoice& choice : collect(events, stream.num_choices())) {
      tokens += choice.finish.completion_tokens;
      Part part{.index = index,
                .text = echoes_[static_cast<size_t>(index)] + choice.text,
                .pieces = prompt_places(index),
                .tokens = choice.tokens,
                .finish = &choice.finish,
                .first = true};
      const auto settled = settle(index, choice.text, choice.tokens, true);
      part.pieces.insert(part.pieces.end(), settled.begin(), settled.end());
      write_choice(out, part);
      ++index;
    }
    out.end_array().key("usage");
    write_usage(out, facts_, shape_.best_of ? stream.completion_tokens() : tokens);
    out.end_object();
    return json;
  }

 private:
  // One entry of `choices`.
  struct Part {
    int64_t index = 0;
    std::string text;
    std::vector<TokenPiece> pieces;  // of the log-probabilities
    std::span<const TokenText> tokens;
    const Finish* finish = nullptr;
    bool first = false;  // of its choice: it tells of the prompt
  };

  bool has_logprobs() const { return shape_.num_logprobs >= 0; }
  int64_t prompt_of(int64_t choice) const { return choice / shape_.num_choices; }

  // The prompt's log-probabilities are complete with the first event of its first choice.
  bool waits_for_prompt(const TextEvent& event) const {
    if (!shape_.echo || !has_logprobs()) return false;
    const int64_t first = prompt_of(event.choice) * shape_.num_choices;
    return event.choice != first && !started_[static_cast<size_t>(first)];
  }

  // The prompt's places in the lists: with echo alone.
  std::vector<TokenPiece> prompt_places(int64_t choice) const {
    if (!shape_.echo || !has_logprobs()) return {};
    return prompt_pieces(echoes_[static_cast<size_t>(choice)],
                         prompt_tokens(*stream_, prompt_of(choice), shape_.num_logprobs));
  }

  std::string events_of(const TextEvent& event) {
    const auto choice = static_cast<size_t>(event.choice);
    std::string bytes;
    bool first = !started_[choice];
    started_[choice] = true;
    if (shape_.echo && first) {
      bytes += event_of({.index = event.choice,
                         .text = echoes_[choice],
                         .pieces = prompt_places(event.choice),
                         .first = true});
      first = false;
    }
    completion_tokens_ += static_cast<int64_t>(event.tokens.size());
    Part part{.index = event.choice,
              .text = event.text,
              .pieces = settle(event.choice, event.text, event.tokens, event.finish.has_value()),
              .tokens = event.tokens,
              .finish = event.finish ? &*event.finish : nullptr,
              .first = first};
    const bool shows_ids = shape_.extras.token_ids && !event.tokens.empty();
    if (!event.text.empty() || event.finish || !part.pieces.empty() || shows_ids) {
      bytes += event_of(part);
    }
    return bytes;
  }

  // Nothing without log-probabilities: only they tell of tokens.
  std::vector<TokenPiece> settle(int64_t choice, std::string_view text,
                                 std::span<const TokenText> tokens, bool ends) {
    if (!has_logprobs()) return {};
    return pieces_[static_cast<size_t>(choice)].push(text, tokens, ends);
  }

  std::string event_of(const Part& part) {
    std::string json;
    JsonWriter out(&json);
    write_openai_head(out, facts_, kObject);
    out.key("choices").begin_array();
    write_choice(out, part);
    out.end_array();
    write_usage_so_far(out, shape_.stream, facts_, completion_tokens_);
    out.end_object();
    return sse(json);
  }

  void write_choice(JsonWriter& out, const Part& part) const {
    out.begin_object().key("index").value(part.index).key("text").value(part.text);
    out.key("logprobs");
    if (!has_logprobs() || (part.pieces.empty() && part.finish == nullptr)) {
      out.null();
    } else {
      write_logprobs(out, part.pieces);
    }
    write_openai_ending(out, part.finish);
    write_extras(out, part);
    out.end_object();
  }

  void write_extras(JsonWriter& out, const Part& part) const {
    const int64_t prompt = prompt_of(part.index);
    if (shape_.extras.num_prompt_logprobs >= 0) {
      out.key("prompt_logprobs");
      write_prompt_logprobs(out,
                            prompt_tokens(*stream_, prompt, shape_.extras.num_prompt_logprobs));
    }
    if (!shape_.extras.token_ids) return;
    if (part.first) {
      out.key("prompt_token_ids");
      write_ids(out, stream_->prompt_ids(prompt));
    }
    out.key("token_ids");
    write_ids(out, part.tokens);
  }

  void write_logprobs(JsonWriter& out, const std::vector<TokenPiece>& pieces) const {
    out.begin_object().key("text_offset").begin_array();
    for (const TokenPiece& piece : pieces) out.value(piece.offset);
    out.end_array().key("token_logprobs").begin_array();
    for (const TokenPiece& piece : pieces) {
      piece.unknown ? out.null() : out.value(std::max(piece.token.logprob, kLeastLogprob));
    }
    out.end_array().key("tokens").begin_array();
    for (const TokenPiece& piece : pieces) out.value(spelled(piece.token));
    out.end_array().key("top_logprobs").begin_array();
    for (const TokenPiece& piece : pieces) {
      piece.unknown ? static_cast<void>(out.null()) : write_top(out, piece.token);
    }
    out.end_array().end_object();
  }

  template <typename Token>
  std::string spelled(const Token& token) const {
    return completion_spelling(token.id, token.text, token.bytes, shape_.extras.tokens_as_ids);
  }

  // The best by text; the chosen token is always among them, under the name that `tokens` gives it.
  // Of several tokens with one text only the first has it as its name; the others have their ids.
  void write_top(JsonWriter& out, const TokenText& token) const {
    std::vector<std::string> names = {spelled(token)};
    const auto write = [&out](const std::string& name, float logprob) {
      out.key(name).value(std::max(logprob, kLeastLogprob));
    };
    bool has_own = false;
    out.begin_object();
    for (const auto& other : token.top) {
      if (other.id == token.id) {
        has_own = true;
        write(names.front(), other.logprob);
        continue;
      }
      std::string name = spelled(other);
      if (std::find(names.begin(), names.end(), name) != names.end()) name = id_spelling(other.id);
      write(name, other.logprob);
      names.push_back(std::move(name));
    }
    if (!has_own) write(names.front(), token.logprob);
    out.end_object();
  }

  AnswerFacts facts_;
  const CompletionShape shape_;
  const ResponseStream* stream_ = nullptr;  // from begin(); outlives this format's use
  int64_t completion_tokens_ = 0;
  std::vector<TextEvent> waiting_;  // see waits_for_prompt
  // Per choice:
  std::vector<TokenPieces> pieces_;
  std::vector<bool> started_;
  std::vector<std::string> echoes_;  // the prompt's text, or nothing
};

// 0 and 1 mean n. A stream cannot wait for the best.
std::optional<int64_t> read_best_of(Fields& fields, int64_t num_choices, bool stream) {
  const int64_t best_of = fields.integer("best_of").value_or(0);
  if (best_of <= 1) return std::nullopt;
  if (stream) {
    fields.problem(ErrorKind::kInvalidParameter, "best_of",
                   "best_of is not allowed with stream: true. Send one without the other.");
  }
  if (best_of < num_choices) {
    fields.problem(ErrorKind::kInvalidParameter, "best_of",
                   ::tidemill::format("best_of is {}; it must be at least n, which is {}.", best_of,
                                      num_choices));
  }
  return best_of;
}

}  // namespace

Result<ApiCall> parse_openai_completion(const JsonValue& body, const ModelFacts& facts,
                                        const RequestContext& context) {
  Fields fields(body, "", kCompletionTable, facts.limits);
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
  const StreamChoices stream = read_stream(fields, facts);
  CompletionShape shape{.stream = stream,
                        .extras = read_extras(fields, stream.stream, generation),
                        .echo = fields.boolean("echo").value_or(false),
                        .num_logprobs = generation.num_logprobs,
                        .skip_special_tokens = generation.skip_special_tokens,
                        .num_choices = std::max<int64_t>(generation.num_choices, 1)};
  generation.best_of = read_best_of(fields, generation.num_choices, stream.stream);
  shape.best_of = generation.best_of.value_or(0) > generation.num_choices;
  if (shape.echo) {
    generation.num_prompt_logprobs =
        std::max(generation.num_prompt_logprobs, generation.num_logprobs);
  }
  auto format = std::make_unique<CompletionFormat>(std::move(answer), shape);
  return finish_call(fields, std::move(generation), FieldNames{}, facts, stream, std::move(format));
}

}  // namespace tidemill

// POST /v1/chat/completions (apis.md 9).
#include <algorithm>

#include "api/answer_facts.h"
#include "api/chat_messages.h"
#include "api/openai_common.h"
#include "api/prompt_facts.h"
#include "base/check.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

using TokenList = std::vector<const TokenText*>;

struct ChatAnswerShape {
  StreamChoices stream;
  AnswerExtras extras;
  bool logprobs = false;
  bool skip_special_tokens = true;
};

class ChatFormat : public ResponseFormat {
 public:
  ChatFormat(AnswerFacts facts, const ChatAnswerShape& shape)
      : facts_(std::move(facts)), shape_(shape) {}

  void begin(const ResponseStream& stream) override {
    read_facts(facts_, stream);
    if (shape_.extras.token_ids) prompt_ids_ = stream.prompt_ids(0);
    started_.assign(static_cast<size_t>(stream.num_choices()), false);
  }

  std::string_view content_type() const override {
    return shape_.stream.stream ? kEventStream : kJsonType;
  }

  std::string chunk(std::span<const TextEvent> events) override {
    std::string bytes;
    for (const TextEvent& event : events) {
      completion_tokens_ += static_cast<int64_t>(event.tokens.size());
      const auto choice = static_cast<size_t>(event.choice);
      // With the first token, not earlier: load generators take it as the time to first token.
      if (!started_[choice]) bytes += delta_event({.choice = event.choice, .delta = kRoleDelta});
      started_[choice] = true;
      const TokenList shown = shown_tokens(event.tokens, event.finish ? &*event.finish : nullptr);
      const bool shows_ids = shape_.extras.token_ids && !event.tokens.empty();
      if (!event.text.empty() || !shown.empty() || shows_ids) {
        std::string delta;
        JsonWriter(&delta).begin_object().key("content").value(event.text).end_object();
        bytes += delta_event(
            {.choice = event.choice, .delta = delta, .shown = shown, .tokens = event.tokens});
      }
      if (event.finish) {
        bytes += delta_event({.choice = event.choice, .delta = "{}", .finish = &*event.finish});
      }
    }
    return bytes;
  }

  std::string end(const ResponseStream& stream) override {
    read_facts(facts_, stream);
    return openai_stream_end(kChunk, shape_.stream, facts_, completion_tokens_);
  }

  std::string stream_error(const Error& error) override { return openai_stream_error(error); }

  std::string whole(std::span<const TextEvent> events, const ResponseStream& stream) override {
    read_facts(facts_, stream);
    int64_t tokens = 0;
    std::string json;
    JsonWriter out(&json);
    write_openai_head(out, facts_, "chat.completion");
    out.key("choices").begin_array();
    int64_t index = 0;
    for (const WholeChoice& choice : collect(events, stream.num_choices())) {
      tokens += choice.finish.completion_tokens;
      out.begin_object().key("index").value(index++).key("message").begin_object();
      out.key("role").value("assistant").key("content").value(choice.text);
      out.key("refusal").null().end_object();
      out.key("logprobs");
      write_logprobs(out, shown_tokens(choice.tokens, &choice.finish));
      write_openai_ending(out, &choice.finish);
      if (shape_.extras.token_ids) {
        out.key("token_ids");
        write_ids(out, choice.tokens);
      }
      out.end_object();
    }
    out.end_array().key("usage");
    write_usage(out, facts_, tokens);
    if (shape_.extras.num_prompt_logprobs >= 0) {
      out.key("prompt_logprobs");
      write_prompt_logprobs(out, prompt_tokens(stream, 0, shape_.extras.num_prompt_logprobs));
    }
    write_prompt_ids(out);
    out.end_object();
    return json;
  }

 private:
  static constexpr std::string_view kChunk = "chat.completion.chunk";
  static constexpr std::string_view kRoleDelta = R"({"role":"assistant","content":""})";

  // One event of a choice.
  struct Delta {
    int32_t choice = 0;
    std::string_view delta;
    TokenList shown = {};  // of the log-probabilities
    std::span<const TokenText> tokens = {};
    const Finish* finish = nullptr;
  };

  // Once: in a whole answer, and in the first event of a stream.
  void write_prompt_ids(JsonWriter& out) {
    if (!shape_.extras.token_ids || told_prompt_) return;
    told_prompt_ = true;
    out.key("prompt_token_ids");
    write_ids(out, prompt_ids_);
  }

  std::string delta_event(const Delta& event) {
    std::string json;
    JsonWriter out(&json);
    write_openai_head(out, facts_, kChunk);
    out.key("choices").begin_array().begin_object();
    out.key("index").value(int64_t{event.choice}).key("delta").raw(event.delta).key("logprobs");
    event.shown.empty() ? static_cast<void>(out.null()) : write_logprobs(out, event.shown);
    write_openai_ending(out, event.finish);
    if (shape_.extras.token_ids && !event.tokens.empty()) {
      out.key("token_ids");
      write_ids(out, event.tokens);
    }
    out.end_object().end_array();
    write_prompt_ids(out);
    write_usage_so_far(out, shape_.stream, facts_, completion_tokens_);
    out.end_object();
    return sse(json);
  }

  // One entry per id of the content: skipped ids are none of it, nor is the end of sequence.
  TokenList shown_tokens(std::span<const TokenText> tokens, const Finish* finish) const {
    if (!shape_.logprobs) return {};
    const bool ends = finish != nullptr && finish->reason == FinishReason::kEndToken;
    if (ends && !tokens.empty()) tokens = tokens.first(tokens.size() - 1);
    TokenList shown;
    for (const TokenText& token : tokens) {
      if (!token.special || !shape_.skip_special_tokens) shown.push_back(&token);
    }
    return shown;
  }

  static void write_bytes(JsonWriter& out, const std::string& bytes) {
    if (bytes.empty()) {
      out.null();
      return;
    }
    out.begin_array();
    for (const char c : bytes) out.value(int64_t{static_cast<unsigned char>(c)});
    out.end_array();
  }

  // A piece of a character shows as U+FFFD; its true bytes stand beside it.
  static std::string shown_text(const std::string& text, const std::string& bytes) {
    if (bytes.empty()) return text;
    return first_invalid_utf8(bytes) ? std::string("\ufffd") : bytes;
  }

  template <typename Token>
  void write_token(JsonWriter& out, const Token& token) const {
    out.key("token").value(shape_.extras.tokens_as_ids ? ::tidemill::format("token_id:{}", token.id)
                                                       : shown_text(token.text, token.bytes));
    out.key("logprob").value(std::max(token.logprob, kLeastLogprob)).key("bytes");
    write_bytes(out, token.bytes);
  }

  // The best, and behind them the chosen one where sampling took another; nothing when none are
  // wanted.
  void write_top(JsonWriter& out, const TokenText& token) const {
    bool has_chosen = token.top.empty();
    for (const TokenText::Alternative& other : token.top) {
      out.begin_object();
      write_token(out, other);
      out.end_object();
      has_chosen = has_chosen || other.id == token.id;
    }
    if (has_chosen) return;
    out.begin_object();
    write_token(out, token);
    out.end_object();
  }

  void write_logprobs(JsonWriter& out, const TokenList& tokens) const {
    if (!shape_.logprobs) {
      out.null();
      return;
    }
    out.begin_object().key("content").begin_array();
    for (const TokenText* token : tokens) {
      out.begin_object();
      write_token(out, *token);
      out.key("top_logprobs").begin_array();
      write_top(out, *token);
      out.end_array().end_object();
    }
    out.end_array().key("refusal").null().end_object();
  }

  AnswerFacts facts_;
  const ChatAnswerShape shape_;
  std::vector<TokenId> prompt_ids_;
  bool told_prompt_ = false;
  int64_t completion_tokens_ = 0;
  std::vector<bool> started_;
};

// logprobs is a switch here, and top_logprobs the number.
int64_t read_logprobs(Fields& fields) {
  const bool wanted = fields.boolean("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs");
  if (top && !wanted) {
    fields.problem(ErrorKind::kInvalidParameter, "top_logprobs",
                   "top_logprobs is only allowed with logprobs: true.");
  }
  return wanted ? top.value_or(0) : -1;
}

}  // namespace

Result<ApiCall> parse_openai_chat(const JsonValue& body, const ModelFacts& facts,
                                  const RequestContext& context) {
  Fields fields(body, "", kChatTable, facts.limits);
  GenerationFields generation;
  AnswerFacts answer{.id = answer_id("chatcmpl-", context),
                     .created = context.created,
                     .model = answer_model(fields, facts),
                     .system_fingerprint = facts.system_fingerprint};
  generation.prompts.push_back(read_chat_prompt(fields, facts));
  read_sampling(fields, facts, generation);
  FieldNames names{.prompt = "messages", .num_logprobs = "top_logprobs"};
  generation.max_new_tokens = fields.integer("max_tokens");
  if (const auto newer = fields.integer("max_completion_tokens")) {
    generation.max_new_tokens = newer;
    names.max_new_tokens = "max_completion_tokens";
  }
  generation.num_logprobs = read_logprobs(fields);
  const StreamChoices stream = read_stream(fields, facts);
  const ChatAnswerShape shape{.stream = stream,
                              .extras = read_extras(fields, stream.stream, generation),
                              .logprobs = generation.num_logprobs >= 0,
                              .skip_special_tokens = generation.skip_special_tokens};
  auto format = std::make_unique<ChatFormat>(std::move(answer), shape);
  return finish_call(fields, std::move(generation), names, facts, stream, std::move(format));
}

}  // namespace tidemill

// POST /v1/chat/completions (apis.md 9).
#include <algorithm>

#include "api/answer_facts.h"
#include "api/chat_messages.h"
#include "api/error.h"
#include "api/openai_common.h"
#include "base/check.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

using TokenList = std::vector<const TokenText*>;

class ChatFormat : public ResponseFormat {
 public:
  ChatFormat(AnswerFacts facts, StreamChoices stream, bool logprobs, bool skip_special_tokens)
      : facts_(std::move(facts)),
        stream_(stream),
        logprobs_(logprobs),
        skip_special_tokens_(skip_special_tokens) {}

  void begin(const ResponseStream& stream) override {
    read_facts(facts_, stream);
    started_.assign(static_cast<size_t>(stream.num_choices()), false);
  }

  std::string_view content_type() const override {
    return stream_.stream ? kEventStream : kJsonType;
  }

  std::string chunk(std::span<const TextEvent> events) override {
    std::string bytes;
    for (const TextEvent& event : events) {
      completion_tokens_ += static_cast<int64_t>(event.tokens.size());
      const auto choice = static_cast<size_t>(event.choice);
      // With the first token, not earlier: load generators take it as the time to first token.
      if (!started_[choice]) bytes += delta_event(event.choice, role_delta(), {}, nullptr);
      started_[choice] = true;
      const TokenList shown = shown_tokens(event.tokens, event.finish ? &*event.finish : nullptr);
      if (!event.text.empty() || !shown.empty()) {
        std::string delta;
        JsonWriter(&delta).begin_object().key("content").value(event.text).end_object();
        bytes += delta_event(event.choice, delta, shown, nullptr);
      }
      if (event.finish) bytes += delta_event(event.choice, "{}", {}, &*event.finish);
    }
    return bytes;
  }

  std::string end(const ResponseStream& stream) override {
    std::string bytes;
    if (stream_.include_usage) {
      read_facts(facts_, stream);
      std::string json;
      JsonWriter out(&json);
      write_head(out, "chat.completion.chunk");
      out.key("choices").begin_array().end_array().key("usage");
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
    write_head(out, "chat.completion");
    out.key("choices").begin_array();
    int64_t index = 0;
    for (const WholeChoice& choice : collect(events, stream.num_choices())) {
      tokens += choice.finish.completion_tokens;
      out.begin_object().key("index").value(index++).key("message").begin_object();
      out.key("role").value("assistant").key("content").value(choice.text);
      out.key("refusal").null().end_object();
      out.key("logprobs");
      write_logprobs(out, shown_tokens(choice.tokens, &choice.finish));
      out.key("finish_reason").value(openai_finish(choice.finish.reason)).key("stop_reason");
      write_stop_reason(out, choice.finish);
      out.end_object();
    }
    out.end_array().key("usage");
    write_usage(out, facts_, tokens);
    out.end_object();
    return json;
  }

 private:
  static std::string role_delta() { return R"({"role":"assistant","content":""})"; }

  void write_head(JsonWriter& out, std::string_view object) const {
    out.begin_object();
    out.key("id").value(facts_.id).key("object").value(object);
    out.key("created").value(facts_.created).key("model").value(facts_.model);
    out.key("system_fingerprint").value(facts_.system_fingerprint);
  }

  std::string delta_event(int32_t choice, const std::string& delta, const TokenList& tokens,
                          const Finish* finish) const {
    std::string json;
    JsonWriter out(&json);
    write_head(out, "chat.completion.chunk");
    out.key("choices").begin_array().begin_object();
    out.key("index").value(int64_t{choice}).key("delta").raw(delta).key("logprobs");
    tokens.empty() ? static_cast<void>(out.null()) : write_logprobs(out, tokens);
    out.key("finish_reason");
    if (finish == nullptr) {
      out.null();
    } else {
      out.value(openai_finish(finish->reason)).key("stop_reason");
      write_stop_reason(out, *finish);
    }
    out.end_object().end_array();
    if (stream_.include_usage) {
      out.key("usage");
      stream_.continuous_usage ? write_usage(out, facts_, completion_tokens_)
                               : static_cast<void>(out.null());
    }
    out.end_object();
    return sse(json);
  }

  // One entry per id of the content: skipped ids are none of it, nor is the end of sequence.
  TokenList shown_tokens(std::span<const TokenText> tokens, const Finish* finish) const {
    if (!logprobs_) return {};
    const bool ends = finish != nullptr && finish->reason == FinishReason::kEndToken;
    if (ends && !tokens.empty()) tokens = tokens.first(tokens.size() - 1);
    TokenList shown;
    for (const TokenText& token : tokens) {
      if (!token.special || !skip_special_tokens_) shown.push_back(&token);
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

  static void write_token(JsonWriter& out, const std::string& text, const std::string& bytes,
                          float logprob) {
    out.key("token").value(shown_text(text, bytes));
    out.key("logprob").value(std::max(logprob, kLeastLogprob)).key("bytes");
    write_bytes(out, bytes);
  }

  // The best, and behind them the chosen one where sampling took another; nothing when none are
  // wanted.
  static void write_top(JsonWriter& out, const TokenText& token) {
    bool has_chosen = token.top.empty();
    for (const TokenText::Alternative& other : token.top) {
      out.begin_object();
      write_token(out, other.text, other.bytes, other.logprob);
      out.end_object();
      has_chosen = has_chosen || other.id == token.id;
    }
    if (has_chosen) return;
    out.begin_object();
    write_token(out, token.text, token.bytes, token.logprob);
    out.end_object();
  }

  void write_logprobs(JsonWriter& out, const TokenList& tokens) const {
    if (!logprobs_) {
      out.null();
      return;
    }
    out.begin_object().key("content").begin_array();
    for (const TokenText* token : tokens) {
      out.begin_object();
      write_token(out, token->text, token->bytes, token->logprob);
      out.key("top_logprobs").begin_array();
      write_top(out, *token);
      out.end_array().end_object();
    }
    out.end_array().key("refusal").null().end_object();
  }

  AnswerFacts facts_;
  const StreamChoices stream_;
  const bool logprobs_;
  const bool skip_special_tokens_;
  int64_t completion_tokens_ = 0;
  std::vector<bool> started_;
};

// logprobs is a switch here, and top_logprobs the number.
int64_t read_logprobs(Fields& fields) {
  const auto wanted = fields.boolean("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs");
  if (top && *top < 0) {
    fields.problem(ErrorKind::kInvalidParameter, "top_logprobs",
                   ::tidemill::format("top_logprobs is {}; it must be at least 0.", *top));
  }
  if (top && !wanted) {
    fields.problem(ErrorKind::kInvalidParameter, "top_logprobs",
                   "top_logprobs is only allowed with logprobs: true.");
  }
  return wanted ? top.value_or(0) : -1;
}

void refuse_chat_later_work(Fields& fields) {
  if (const JsonValue* tools = fields.value("tools")) {
    const bool none = tools->is_array() && tools->array().empty();
    fields.problem(none ? ErrorKind::kInvalidParameter : ErrorKind::kUnsupportedParameter, "tools",
                   none ? "tools is an empty list. Leave it out."
                        : "tools is not supported yet. Leave it out.");
  }
  fields.refuse_unless("tool_choice", "none", "Leave it out.");
  fields.refuse_unless("functions", JsonValue(), "Its successor tools comes later, too.");
  fields.refuse_unless("function_call", JsonValue(), "Its successor tools comes later, too.");
  fields.refuse_unless("modalities", JsonArray{JsonValue("text")}, "Only text is answered.");
  for (const char* name : {"audio", "web_search_options", "reasoning_effort"}) {
    fields.refuse_unless(name, JsonValue(), "Leave it out.");
  }
  fields.refuse_unless("echo", false, "Leave it out.");
  fields.refuse_unless("add_special_tokens", false, "The template writes them.");
  fields.accept({"parallel_tool_calls", "include_reasoning"});
}

}  // namespace

Result<ApiCall> parse_openai_chat(const JsonValue& body, const ModelFacts& facts,
                                  const RequestContext& context) {
  Fields fields(body, "");
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
  if (generation.max_new_tokens && *generation.max_new_tokens < 1) {
    fields.problem(ErrorKind::kInvalidParameter, names.max_new_tokens,
                   ::tidemill::format("{} is {}; it must be at least 1.", names.max_new_tokens,
                                      *generation.max_new_tokens));
  }
  generation.num_logprobs = read_logprobs(fields);
  const StreamChoices stream = read_stream(fields);
  refuse_chat_later_work(fields);
  refuse_later_work(fields);
  auto format = std::make_unique<ChatFormat>(
      std::move(answer), stream, generation.num_logprobs >= 0, generation.skip_special_tokens);
  return finish_call(fields, std::move(generation), names, facts, stream, std::move(format));
}

}  // namespace tidemill

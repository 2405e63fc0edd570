#include "api/lmi_chat.h"

#include <algorithm>

#include "api/answer_facts.h"
#include "api/chat_messages.h"
#include "api/common_fields.h"
#include "api/lmi_format.h"
#include "api/lmi_parameters.h"
#include "api/openai_common.h"
#include "api/token_pieces.h"
#include "base/check.h"

namespace tidemill {
namespace {

constexpr int64_t kDefaultChatTokens = 30;

struct ChatShape {
  LmiFraming framing = LmiFraming::kJson;
  bool logprobs = false;
  bool skip_special_tokens = true;
  LmiOptions options;
};

class LmiChatFormat : public ResponseFormat {
 public:
  LmiChatFormat(AnswerFacts facts, ChatShape shape)
      : facts_(std::move(facts)), shape_(std::move(shape)) {}

  void begin(const ResponseStream& stream) override {
    read_facts(facts_, stream);
    const auto count = static_cast<size_t>(stream.num_choices());
    started_.assign(count, false);
    pieces_.assign(count, TokenPieces(shape_.skip_special_tokens, 0));
  }

  std::string_view content_type() const override { return lmi_content_type(shape_.framing); }

  // A record per token.
  std::string chunk(std::span<const TextEvent> events) override {
    std::string bytes;
    for (const TextEvent& event : events) {
      if (shape_.framing == LmiFraming::kNone) {
        bytes += event.text;
        continue;
      }
      const auto choice = static_cast<size_t>(event.choice);
      each_token(pieces_[choice], event, [&](const TokenPiece* piece, const Finish* finish) {
        bytes += record(event.choice, piece, finish);
      });
    }
    return bytes;
  }

  std::string end(const ResponseStream&) override {
    return shape_.framing == LmiFraming::kSse ? std::string(kSseDone) : "";
  }

  std::string stream_error(const Error& error) override {
    const std::string done = shape_.framing == LmiFraming::kSse ? std::string(kSseDone) : "";
    return lmi_error_record(shape_.framing, error, shape_.options) + done;
  }

  std::string whole(std::span<const TextEvent> events, const ResponseStream& stream) override {
    const auto choices = collect(events, stream.num_choices());
    if (shape_.framing == LmiFraming::kNone) return choices.front().text;
    std::string json;
    JsonWriter out(&json);
    write_head(out, "chat.completion");
    out.key("choices").begin_array();
    int64_t index = 0, tokens = 0;
    for (const WholeChoice& choice : choices) {
      tokens += choice.finish.completion_tokens;
      out.begin_object().key("index").value(index++).key("message").begin_object();
      out.key("role").value("assistant").key("content").value(choice.text).end_object();
      out.key("logprobs");
      write_logprobs(out, choice);
      out.key("finish_reason").value(lmi_finish(choice.finish.reason)).end_object();
    }
    out.end_array().key("usage").begin_object();
    out.key("prompt_tokens").value(facts_.prompt_tokens).key("completion_tokens").value(tokens);
    out.key("total_tokens").value(facts_.prompt_tokens + tokens).end_object().end_object();
    return spaced(json);
  }

 private:
  void write_head(JsonWriter& out, std::string_view object) const {
    out.begin_object().key("id").value(facts_.id).key("object").value(object);
    out.key("created").value(facts_.created);
  }

  std::string record(int32_t choice, const TokenPiece* piece, const Finish* finish) {
    const std::string_view text = piece != nullptr ? std::string_view(piece->visible) : "";
    std::string json;
    JsonWriter out(&json);
    write_head(out, "chat.completion.chunk");
    out.key("choices").begin_array().begin_object().key("index").value(int64_t{choice});
    out.key("delta").begin_object().key("content").value(text);
    const auto index = static_cast<size_t>(choice);
    if (!started_[index]) out.key("role").value("assistant");
    started_[index] = true;
    out.end_object().key("logprobs");
    if (shape_.logprobs && piece != nullptr) {
      out.begin_object().key("content").begin_array();
      write_entry(out, piece->token, text);
      out.end_array().end_object();
    } else {
      out.null();
    }
    out.key("finish_reason");
    finish != nullptr ? out.value(lmi_finish(finish->reason)) : out.null();
    out.end_object().end_array().end_object();
    return lmi_record(shape_.framing, spaced(json));
  }

  // Opens an object.
  static void write_likely(JsonWriter& out, std::string_view text, const std::string& bytes,
                           float logprob) {
    out.begin_object().key("token").value(text).key("logprob").value(
        std::max(logprob, kLeastLogprob));
    out.key("bytes").begin_array();
    for (const char c : bytes) out.value(int64_t{static_cast<unsigned char>(c)});
    out.end_array();
  }

  // Where no best ones were asked for, the chosen one stands alone among them.
  static void write_entry(JsonWriter& out, const TokenText& token, std::string_view text) {
    write_likely(out, text, token.bytes, token.logprob);
    out.key("top_logprobs").begin_array();
    for (const TokenText::Alternative& other : token.top) {
      write_likely(out, other.text, other.bytes, other.logprob);
      out.end_object();
    }
    if (token.top.empty()) {
      write_likely(out, text, token.bytes, token.logprob);
      out.end_object();
    }
    out.end_array().end_object();
  }

  void write_logprobs(JsonWriter& out, const WholeChoice& choice) const {
    if (!shape_.logprobs) {
      out.null();
      return;
    }
    TokenPieces splitter(shape_.skip_special_tokens, 0);
    const auto pieces = splitter.push(choice.text, choice.tokens, true);
    out.begin_object().key("content").begin_array();
    for (const TokenPiece& piece : pieces) write_entry(out, piece.token, piece.visible);
    out.end_array().end_object();
  }

  AnswerFacts facts_;
  const ChatShape shape_;
  std::vector<bool> started_;
  std::vector<TokenPieces> pieces_;
};

void read_chat_sampling(Fields& fields, GenerationFields& out) {
  out.temperature = fields.number("temperature").value_or(1.0);
  read_lmi_filters(fields, out);
  read_common(fields, out);
  out.num_choices = fields.integer("n").value_or(1);
  const auto newer = fields.integer("max_new_tokens");
  out.max_new_tokens = fields.integer("max_tokens").value_or(newer.value_or(kDefaultChatTokens));
  out.min_new_tokens = fields.integer("min_tokens").value_or(0);
  out.stop_strings = fields.texts("stop").value_or(std::vector<std::string>());
  const bool logprobs = fields.boolean("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs");
  if (top && !logprobs) {
    fields.problem(ErrorKind::kInvalidParameter, "top_logprobs",
                   "top_logprobs needs logprobs: true.");
  }
  out.num_logprobs = logprobs ? top.value_or(0) : -1;
}

}  // namespace

Result<ApiCall> parse_lmi_chat(const JsonValue& body, const ModelFacts& facts,
                               const RequestContext& context) {
  Fields fields(body, "", kInvocationChatTable, facts.limits);
  GenerationFields generation;
  generation.prompts.push_back(read_chat_prompt(fields, facts));
  read_chat_sampling(fields, generation);
  fields.text("tool_choice");  // either value asks for nothing
  const bool stream = fields.boolean("stream").value_or(false);
  const JsonValue none = JsonObject{};
  const JsonValue* inside = fields.value("parameters");
  Fields parameters(inside != nullptr ? *inside : none, "parameters.",
                    kInvocationChatParametersTable, facts.limits);
  const LmiFormatter formatter = read_lmi_formatter(parameters, facts, stream);
  fields.adopt(parameters);
  StreamChoices choices{.stream = formatter.framing == LmiFraming::kNone
                                      ? stream
                                      : formatter.framing != LmiFraming::kJson};
  for (const std::string& name : parameters.unknown()) {
    choices.unknown.push_back(parameters.path_of(name));
  }
  if (formatter.unknown) choices.unknown.push_back(*formatter.unknown);
  ChatShape shape{.framing = formatter.framing,
                  .logprobs = generation.num_logprobs >= 0,
                  .skip_special_tokens = generation.skip_special_tokens,
                  .options = facts.lmi};
  AnswerFacts answer{.id = answer_id("chatcmpl-", context), .created = context.created};
  const FieldNames names{.prompt = "messages",
                         .max_new_tokens = fields.given_name({"max_tokens", "max_new_tokens"}),
                         .num_logprobs = "top_logprobs"};
  return finish_call(fields, std::move(generation), names, facts, choices,
                     std::make_unique<LmiChatFormat>(std::move(answer), std::move(shape)));
}

}  // namespace tidemill

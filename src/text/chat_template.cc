#include "text/chat_template.h"

#include <algorithm>
#include <stdexcept>

#include "base/utf8.h"
#include "text/disguise.h"
#include "text/rust_abi.h"

namespace tidemill {
namespace {

constexpr size_t kMaxMessageBytes = 256;  // of a template's own complaint

constexpr const char* kReserved[] = {"messages", "tools", "documents", "add_generation_prompt"};

Error template_error(std::string_view message) {
  size_t length = std::min(message.size(), kMaxMessageBytes);
  while (length > 0 && first_invalid_utf8(message.substr(0, length))) --length;
  return {
      .kind = ErrorKind::kTemplateError,
      .field = "messages",
      .message = format("the chat template refuses the messages: {}", message.substr(0, length))};
}

// Of a message's content: that of the last part when it is a list.
std::string_view text_of(const JsonValue* content) {
  if (content != nullptr && content->is_array() && !content->array().empty()) {
    content = content->array().back().find("text");
  }
  return content != nullptr && content->is_string() ? std::string_view(content->string()) : "";
}

}  // namespace

struct ChatTemplate::State {
  rust::TemplateHandle* handle = nullptr;
  JsonValue texts;  // the source and the special tokens: what a template writes by itself
  JsonValue special_tokens;
  bool iterates_over_content = false;
  bool mentions_developer = false;

  ~State() {
    if (handle != nullptr) rust::call(rust::tidemill_template_free, handle);
  }

  Result<std::string> render(const JsonValue& variables) const {
    rust::Answer answer;
    const std::string json = to_json(variables);
    if (!rust::call(rust::tidemill_template_render, handle, rust::text(json), answer.out())) {
      return template_error(answer.view());
    }
    return answer.string();
  }

  JsonValue variables(const JsonValue& messages, bool add_generation_prompt) const {
    JsonValue out = JsonObject{{"messages", messages},
                               {"add_generation_prompt", add_generation_prompt},
                               {"tools", JsonValue()},
                               {"documents", JsonValue()}};
    for (const JsonMember& token : special_tokens.object()) out.set(token.first, token.second);
    return out;
  }

  // Does a list of parts come out as its text? Then the template goes over the parts itself.
  bool probe_content_parts() const {
    const JsonValue parts = JsonArray{JsonObject{{"type", "text"}, {"text", "PROBE"}}};
    const JsonValue messages = JsonArray{JsonObject{{"role", "user"}, {"content", parts}}};
    const auto text = render(variables(messages, false));
    return text && text->find("PROBE") != std::string::npos &&
           text->find("'type'") == std::string::npos && text->find("\"type\"") == std::string::npos;
  }
};

ChatTemplate::ChatTemplate(std::string_view source, const JsonValue& special_tokens,
                           const TemplateLimits& limits)
    : state_(std::make_unique<State>()) {
  rust::Answer error;
  const rust::TemplateLimits bounds{.steps = static_cast<uint64_t>(limits.max_steps),
                                    .depth = static_cast<uint64_t>(limits.max_depth),
                                    .output_bytes = static_cast<uint64_t>(limits.max_output_bytes)};
  state_->handle = rust::call(rust::tidemill_template_new, rust::text(source), bounds, error.out());
  if (state_->handle == nullptr) {
    throw std::runtime_error(format("the chat template cannot be read: {}.", error.view()));
  }
  state_->special_tokens = special_tokens.is_object() ? special_tokens : JsonValue(JsonObject{});
  state_->texts = JsonArray{std::string(source), state_->special_tokens};
  state_->iterates_over_content = state_->probe_content_parts();
  state_->mentions_developer = source.find("developer") != std::string_view::npos;
}
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;

bool ChatTemplate::iterates_over_content() const { return state_->iterates_over_content; }

bool ChatTemplate::mentions_developer() const { return state_->mentions_developer; }

Result<std::string> ChatTemplate::render(const JsonValue& messages,
                                         const ChatTemplateOptions& options) const {
  JsonValue variables =
      state_->variables(messages, options.add_generation_prompt && !options.continue_final_message);
  if (options.kwargs.is_object()) {
    for (const JsonMember& extra : options.kwargs.object()) {
      const bool reserved = std::any_of(std::begin(kReserved), std::end(kReserved),
                                        [&](const char* name) { return extra.first == name; }) ||
                            state_->special_tokens.find(extra.first) != nullptr;
      if (reserved) {
        return Error{
            .kind = ErrorKind::kInvalidParameter,
            .field = "chat_template_kwargs",
            .message = format("chat_template_kwargs may not set {}", extra.first.substr(0, 64))};
      }
      variables.set(extra.first, extra.second);
    }
  }
  auto text = state_->render(variables);
  if (!text || !options.continue_final_message) return text;
  // The prompt ends right behind the last message's text.
  std::string_view last = text_of(messages.array().back().find("content"));
  while (!last.empty() && (last.back() == ' ' || last.back() == '\n')) last.remove_suffix(1);
  const size_t at = text->rfind(last);
  if (last.empty() || at == std::string::npos) {
    return template_error(
        "it does not write the final message as it is, so it cannot be continued");
  }
  text->resize(at + last.size());
  return text;
}

Result<std::vector<TokenId>> ChatTemplate::encode(const Tokenizer& tokenizer,
                                                  const JsonValue& messages,
                                                  const ChatTemplateOptions& options) const {
  Disguise disguise(tokenizer.control_tokens(), {&state_->texts, &messages, &options.kwargs});
  const auto disguised = disguise.put_on(messages);
  if (!disguised) return disguised.error();
  const auto text = render(*disguised, options);
  if (!text) return text.error();
  // The normal case, exactly as the reference does it.
  if (!disguise.is_worn()) return tokenizer.encode(*text, {.add_special_tokens = false});
  const auto marked = disguise.take_off(*text);
  if (!marked) return marked.error();
  return tokenizer.encode(*marked, {.add_special_tokens = false, .parse_control_tokens = false});
}

}  // namespace tidemill

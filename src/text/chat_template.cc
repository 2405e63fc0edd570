#include "text/chat_template.h"

#include <algorithm>
#include <stdexcept>

#include "base/check.h"
#include "base/utf8.h"
#include "text/rust_abi.h"

namespace tidemill {
namespace {

constexpr size_t kMaxMessageBytes = 256;  // of a template's own complaint

// A character of the private use area stands for a control token that a user spelled, while the
// template runs.
constexpr uint32_t kFirstSentinel = 0xe000;
constexpr uint32_t kLastSentinel = 0xf8ff;

constexpr const char* kReserved[] = {"messages", "tools", "documents", "add_generation_prompt"};

Error template_error(std::string_view message) {
  size_t length = std::min(message.size(), kMaxMessageBytes);
  while (length > 0 && first_invalid_utf8(message.substr(0, length))) --length;
  return {
      .kind = ErrorKind::kTemplateError,
      .field = "messages",
      .message = format("the chat template refuses the messages: {}", message.substr(0, length))};
}

// Calls `change` on every string inside.
template <typename Change>
void for_each_string(JsonValue& value, Change change) {
  if (value.is_string()) {
    std::string text = value.string();
    if (change(text)) value = std::move(text);
  } else if (value.is_array()) {
    for (JsonValue& item : value.array()) for_each_string(item, change);
  } else if (value.is_object()) {
    for (JsonMember& member : value.object()) for_each_string(member.second, change);
  }
}

void replace_all(std::string& text, std::string_view what, std::string_view by) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size())) {
    text.replace(at, what.size(), by);
  }
}

// Control tokens that a user spelled, and the characters that stand for them.
struct Disguise {
  std::vector<std::pair<std::string, std::string>> sentinel_of;  // token, character

  void put_on(std::string& text) const {
    for (const auto& [token, sentinel] : sentinel_of) replace_all(text, token, sentinel);
  }
  void take_off(std::string& text) const {
    for (const auto& [token, sentinel] : sentinel_of) replace_all(text, sentinel, token);
  }
};

// Longer tokens first, so that "<|im_end|>" inside "<|im_end|>x" does not hide the longer one.
Disguise disguise_for(const JsonValue& messages, const std::vector<std::string>& control_tokens) {
  std::string all = to_json(messages);
  std::vector<std::string> spelled;
  for (const std::string& token : control_tokens) {
    std::string in_json;
    append_json_string(&in_json, token);
    const std::string_view inner = std::string_view(in_json).substr(1, in_json.size() - 2);
    if (!token.empty() && all.find(inner) != std::string::npos) spelled.push_back(token);
  }
  std::sort(spelled.begin(), spelled.end(),
            [](const auto& a, const auto& b) { return a.size() > b.size(); });
  Disguise disguise;
  uint32_t next = kFirstSentinel;
  for (const std::string& token : spelled) {
    std::string sentinel;
    do {
      CHECK(next <= kLastSentinel, "every private-use character stands in one conversation");
      sentinel.clear();
      append_utf8(&sentinel, next++);
    } while (all.find(sentinel) != std::string::npos);
    disguise.sentinel_of.emplace_back(token, sentinel);
  }
  return disguise;
}

// The leftmost control token in `text`, the longest of those that begin there.
struct Found {
  size_t at = std::string::npos;
  std::string_view token;
};
Found first_control_token(std::string_view text, const std::vector<std::string>& control_tokens) {
  Found best;
  for (const std::string& token : control_tokens) {
    if (token.empty()) continue;
    const size_t at = text.find(token);
    if (at < best.at ||
        (at == best.at && at != std::string::npos && token.size() > best.token.size())) {
      best = {at, token};
    }
  }
  return best;
}

}  // namespace

struct ChatTemplate::State {
  rust::TemplateHandle* handle = nullptr;
  JsonValue special_tokens;
  bool iterates_over_content = false;
  bool mentions_developer = false;

  ~State() {
    if (handle != nullptr) rust::tidemill_template_free(handle);
  }

  Result<std::string> render(const JsonValue& variables) const {
    rust::Answer answer;
    const std::string json = to_json(variables);
    if (!rust::tidemill_template_render(handle, rust::text(json), answer.out())) {
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

ChatTemplate::ChatTemplate(std::string_view source, const JsonValue& special_tokens)
    : state_(std::make_unique<State>()) {
  rust::Answer error;
  state_->handle = rust::tidemill_template_new(rust::text(source), error.out());
  if (state_->handle == nullptr) {
    throw std::runtime_error(format("the chat template cannot be read: {}.", error.view()));
  }
  state_->special_tokens = special_tokens.is_object() ? special_tokens : JsonValue(JsonObject{});
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
  const JsonValue* content = messages.array().back().find("content");
  std::string_view last;
  if (content != nullptr && content->is_string()) last = content->string();
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
  const auto& control_tokens = tokenizer.control_tokens();
  const Disguise disguise = disguise_for(messages, control_tokens);
  if (disguise.sentinel_of.empty()) {  // the normal case: exactly as the reference does it
    const auto text = render(messages, options);
    if (!text) return text.error();
    return tokenizer.encode(*text, {.add_special_tokens = false});
  }
  JsonValue disguised = messages;
  for_each_string(disguised, [&](std::string& text) {
    disguise.put_on(text);
    return true;
  });
  const auto text = render(disguised, options);
  if (!text) return text.error();
  std::vector<TokenId> ids;
  for (std::string_view rest = *text; !rest.empty();) {
    const Found found = first_control_token(rest, control_tokens);
    std::string plain(rest.substr(0, std::min(found.at, rest.size())));
    disguise.take_off(plain);
    const auto piece =
        tokenizer.encode(plain, {.add_special_tokens = false, .parse_control_tokens = false});
    if (!piece) return piece.error();
    ids.insert(ids.end(), piece->begin(), piece->end());
    if (found.at == std::string::npos) break;
    ids.push_back(*tokenizer.find(found.token));
    rest.remove_prefix(found.at + found.token.size());
  }
  return ids;
}

}  // namespace tidemill

#include "api/chat_messages.h"

#include <algorithm>
#include <optional>

#include "base/check.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

constexpr int64_t kBytesPerToken = 32;  // as GenerationRequest bounds prompts
constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant", "tool"};

// One message after the other; `fields` keeps the first problem with its path.
class MessageReader {
 public:
  MessageReader(Fields& fields, const ModelFacts& facts) : fields_(fields), facts_(facts) {}

  JsonValue read(const JsonValue& messages) {
    JsonArray out;
    for (size_t i = 0; i < messages.array().size(); ++i) {
      path_ = format("messages[{}]", i);
      out.push_back(read_message(messages.array()[i]));
    }
    return out;
  }

 private:
  void refuse(ErrorKind kind, const std::string& path, const std::string& reason) {
    fields_.problem(kind, path, format("{} {}", path, reason));
  }

  JsonValue read_message(const JsonValue& message) {
    if (!message.is_object()) {
      refuse(ErrorKind::kInvalidParameter, path_,
             format("is {}; it must be an object.", message.kind_name()));
      return {};
    }
    JsonValue out = message;
    const std::string role = read_role(message);
    const bool renamed = role == "developer" && !facts_.template_has_developer;
    out.set("role", renamed ? "system" : role);
    out.set("content", read_content(message, role));
    check_tools(message, role);
    return out;
  }

  void check_tools(const JsonValue& message, const std::string& role) {
    for (const char* name : {"tool_calls", "function_call"}) {
      const JsonValue* call = message.find(name);
      if (call == nullptr || call->is_null() || *call == JsonValue(JsonArray{})) continue;
      refuse(ErrorKind::kUnsupportedParameter, format("{}.{}", path_, name),
             "is not supported yet. Leave tools out.");
    }
    if (role != "tool") return;
    const JsonValue* id = message.find("tool_call_id");
    if (id != nullptr && id->is_string()) return;
    refuse(ErrorKind::kMissingParameter, path_ + ".tool_call_id",
           "is missing: a tool's message names the call that it answers.");
  }

  std::string read_role(const JsonValue& message) {
    const JsonValue* role = message.find("role");
    const bool known =
        role != nullptr && role->is_string() &&
        std::find(std::begin(kRoles), std::end(kRoles), role->string()) != std::end(kRoles);
    if (!known) {
      refuse(ErrorKind::kInvalidParameter, path_ + ".role",
             "must be system, developer, user, assistant or tool.");
      return "user";
    }
    return role->string();
  }

  JsonValue read_content(const JsonValue& message, const std::string& role) {
    const JsonValue* content = message.find("content");
    if (content == nullptr || content->is_null()) {
      if (role != "assistant" && role != "tool") {
        refuse(ErrorKind::kMissingParameter, path_ + ".content", "is missing.");
      }
      return "";
    }
    if (content->is_string()) return *content;
    if (content->is_array()) return read_parts(content->array());
    refuse(ErrorKind::kInvalidParameter, path_ + ".content",
           format("is {}; it must be a string or a list of parts.", content->kind_name()));
    return "";
  }

  // Templates that go over the parts get them; for others they are one text. Other kinds of content
  // need a model that takes them.
  JsonValue read_parts(const JsonArray& parts) {
    JsonArray list;
    std::string joined;
    for (size_t i = 0; i < parts.size(); ++i) {
      const auto text = read_part(parts[i], format("{}.content[{}]", path_, i));
      if (!text) return "";
      joined += (i > 0 ? "\n" : "") + *text;
      list.push_back(JsonObject{{"type", "text"}, {"text", *text}});
    }
    return facts_.template_takes_parts ? JsonValue(std::move(list)) : JsonValue(std::move(joined));
  }

  std::optional<std::string> read_part(const JsonValue& part, const std::string& path) {
    const JsonValue* type = part.find("type");
    if (type == nullptr || !type->is_string()) {
      refuse(ErrorKind::kInvalidParameter, path + ".type", "must be a string.");
      return std::nullopt;
    }
    const bool refusal = type->string() == "refusal";
    if (type->string() != "text" && !refusal) {
      refuse(ErrorKind::kUnsupportedContent, path + ".type",
             format("is {}; this model takes text.", excerpt(type->string())));
      return std::nullopt;
    }
    const JsonValue* text = part.find(refusal ? "refusal" : "text");
    if (text != nullptr && text->is_string()) return text->string();
    refuse(ErrorKind::kInvalidParameter, path + (refusal ? ".refusal" : ".text"),
           "must be a string.");
    return std::nullopt;
  }

  Fields& fields_;
  const ModelFacts& facts_;
  std::string path_;
};

// A template may show them, so the bound of a prompt holds for them, too.
void check_kwargs(Fields& fields, const JsonValue& kwargs, const ModelFacts& facts) {
  if (!kwargs.is_object()) {
    fields.problem(ErrorKind::kInvalidParameter, "chat_template_kwargs",
                   "chat_template_kwargs must be an object.");
    return;
  }
  const int64_t limit = kBytesPerToken * facts.limits.max_model_len;
  const auto bytes = static_cast<int64_t>(to_json(kwargs).size());
  if (bytes <= limit) return;
  fields.problem(ErrorKind::kPromptTooLong, "chat_template_kwargs",
                 format("chat_template_kwargs has {} bytes; a model of {} tokens reads {} at most.",
                        bytes, facts.limits.max_model_len, limit));
}

void read_template_options(Fields& fields, const ModelFacts& facts, ChatPrompt& prompt) {
  const auto generation_prompt = fields.boolean("add_generation_prompt");
  prompt.options.continue_final_message = fields.boolean("continue_final_message").value_or(false);
  prompt.options.add_generation_prompt =
      generation_prompt.value_or(!prompt.options.continue_final_message);
  if (prompt.options.continue_final_message && prompt.options.add_generation_prompt) {
    fields.problem(ErrorKind::kInvalidParameter, "continue_final_message",
                   "continue_final_message and add_generation_prompt exclude each other.");
  }
  if (const JsonValue* kwargs = fields.value("chat_template_kwargs")) {
    check_kwargs(fields, *kwargs, facts);
    prompt.options.kwargs = *kwargs;
  }
  fields.refuse_unless("chat_template", JsonValue(), "The server's template is used.");
  fields.refuse_unless("documents", JsonArray{}, "Put them into a message.");
}

// A template is asked to write the final message as it stands, so it gets one text.
void join_final_content(JsonValue& messages) {
  JsonValue& message = messages.array().back();
  const JsonValue* content = message.find("content");
  if (content == nullptr || !content->is_array()) return;
  std::string joined;
  const char* between = "";
  for (const JsonValue& part : content->array()) {
    joined += between + part.find("text")->string();
    between = "\n";
  }
  message.set("content", joined);
}

}  // namespace

ChatPrompt read_chat_prompt(Fields& fields, const ModelFacts& facts) {
  ChatPrompt prompt;
  const JsonValue* messages = fields.value("messages");
  if (messages == nullptr || !messages->is_array() || messages->array().empty()) {
    fields.problem(
        messages == nullptr ? ErrorKind::kMissingParameter : ErrorKind::kInvalidParameter,
        "messages", "messages must be a list with at least one message.");
    return prompt;
  }
  prompt.messages = MessageReader(fields, facts).read(*messages);
  read_template_options(fields, facts, prompt);
  if (prompt.options.continue_final_message) join_final_content(prompt.messages);
  const JsonValue* last_role = prompt.messages.array().back().find("role");
  if (prompt.options.continue_final_message &&
      (last_role == nullptr || last_role->string() != "assistant")) {
    fields.problem(ErrorKind::kInvalidParameter, "continue_final_message",
                   "only a final message of the assistant can be continued.");
  }
  return prompt;
}

}  // namespace tidemill

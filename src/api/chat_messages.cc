#include "api/chat_messages.h"

#include <algorithm>

#include "base/check.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant", "tool"};

// One message after the other; `fields` keeps the first problem with its path.
class MessageReader {
 public:
  explicit MessageReader(Fields& fields) : fields_(fields) {}

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
    out.set("role", role == "developer" ? "system" : role);
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
    if (content->is_array()) return join_parts(content->array());
    refuse(ErrorKind::kInvalidParameter, path_ + ".content",
           format("is {}; it must be a string or a list of parts.", content->kind_name()));
    return "";
  }

  // Text parts are one text; other kinds of content need a model that takes them.
  JsonValue join_parts(const JsonArray& parts) {
    std::string text;
    for (size_t i = 0; i < parts.size(); ++i) {
      const std::string path = format("{}.content[{}]", path_, i);
      const JsonValue* type = parts[i].find("type");
      if (type == nullptr || !type->is_string()) {
        refuse(ErrorKind::kInvalidParameter, path + ".type", "must be a string.");
        return "";
      }
      const bool refusal = type->string() == "refusal";
      if (type->string() != "text" && !refusal) {
        refuse(ErrorKind::kUnsupportedContent, path + ".type",
               format("is {}; this model takes text.", excerpt(type->string())));
        return "";
      }
      const JsonValue* part = parts[i].find(refusal ? "refusal" : "text");
      if (part == nullptr || !part->is_string()) {
        refuse(ErrorKind::kInvalidParameter, path + ".text", "must be a string.");
        return "";
      }
      if (i > 0) text += '\n';
      text += part->string();
    }
    return text;
  }

  Fields& fields_;
  std::string path_;
};

void read_template_options(Fields& fields, ChatPrompt& prompt) {
  const auto generation_prompt = fields.boolean("add_generation_prompt");
  prompt.options.continue_final_message = fields.boolean("continue_final_message").value_or(false);
  prompt.options.add_generation_prompt =
      generation_prompt.value_or(!prompt.options.continue_final_message);
  if (prompt.options.continue_final_message && prompt.options.add_generation_prompt) {
    fields.problem(ErrorKind::kInvalidParameter, "continue_final_message",
                   "continue_final_message and add_generation_prompt exclude each other.");
  }
  if (const JsonValue* kwargs = fields.value("chat_template_kwargs")) {
    if (!kwargs->is_object()) {
      fields.problem(ErrorKind::kInvalidParameter, "chat_template_kwargs",
                     "chat_template_kwargs must be an object.");
    }
    prompt.options.kwargs = *kwargs;
  }
  fields.refuse_unless("chat_template", JsonValue(), "The server's template is used.");
  fields.refuse_unless("documents", JsonArray{}, "Put them into a message.");
}

}  // namespace

ChatPrompt read_chat_prompt(Fields& fields) {
  ChatPrompt prompt;
  const JsonValue* messages = fields.value("messages");
  if (messages == nullptr || !messages->is_array() || messages->array().empty()) {
    fields.problem(
        messages == nullptr ? ErrorKind::kMissingParameter : ErrorKind::kInvalidParameter,
        "messages", "messages must be a list with at least one message.");
    return prompt;
  }
  prompt.messages = MessageReader(fields).read(*messages);
  read_template_options(fields, prompt);
  const JsonValue* last_role = prompt.messages.array().back().find("role");
  if (prompt.options.continue_final_message &&
      (last_role == nullptr || last_role->string() != "assistant")) {
    fields.problem(ErrorKind::kInvalidParameter, "continue_final_message",
                   "only a final message of the assistant can be continued.");
  }
  return prompt;
}

}  // namespace tidemill

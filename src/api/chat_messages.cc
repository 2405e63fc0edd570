#include "api/chat_messages.h"

#include <algorithm>
#include <optional>

#include "base/check.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

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
    Fields members(message, path_ + ".", kMessageTable, facts_.limits);
    JsonValue out = message;
    const std::string role = members.text("role").value_or("user");
    fields_.adopt(members);
    const bool renamed = role == "developer" && !facts_.template_has_developer;
    out.set("role", renamed ? "system" : role);
    const JsonValue* calls = members.value("tool_calls");
    const bool has_calls = calls != nullptr && !calls->array().empty();
    out.set("content", read_content(members, role, has_calls));
    if (has_calls) out.set("tool_calls", read_calls(calls->array(), role));
    members.text("name");
    if (!members.text("tool_call_id") && role == "tool") {
      members.problem(ErrorKind::kMissingParameter, "tool_call_id",
                      format("{} is missing: a tool's message names the call that it answers.",
                             members.path_of("tool_call_id")));
    }
    const auto unread = members.unread();
    CHECK(unread.empty(), "the row {} is never read", unread.front());
    fields_.adopt(members);
    return out;
  }

  // Arguments are a string on the wire; templates read the object that it spells, where it does.
  JsonValue read_calls(const JsonArray& calls, const std::string& role) {
    const std::string path = path_ + ".tool_calls";
    if (role != "assistant") {
      refuse(ErrorKind::kInvalidParameter, path, "is only allowed in the assistant's messages.");
    }
    JsonArray out = calls;
    for (size_t i = 0; i < out.size(); ++i) {
      JsonValue* function = out[i].find("function");
      const JsonValue* name = function == nullptr ? nullptr : function->find("name");
      if (name == nullptr || !name->is_string()) {
        refuse(ErrorKind::kInvalidParameter, format("{}[{}].function.name", path, i),
               "must be a string.");
        return {};
      }
      JsonValue* arguments = function->find("arguments");
      if (arguments == nullptr || !arguments->is_string()) continue;
      auto parsed = parse_json(arguments->string());
      if (parsed && parsed->is_object()) *arguments = std::move(*parsed);
    }
    return out;
  }

  JsonValue read_content(Fields& members, const std::string& role, bool has_calls) {
    const JsonValue* content = members.value("content");
    if (content == nullptr) {
      if (role != "assistant" && role != "tool") {
        refuse(ErrorKind::kMissingParameter, path_ + ".content", "is missing.");
      }
      return role == "assistant" && has_calls ? JsonValue() : JsonValue("");
    }
    if (content->is_string()) return *content;
    return read_parts(content->array(), role);
  }

  // Templates that go over the parts get them; for others they are one text. Other kinds of content
  // need a model that takes them.
  JsonValue read_parts(const JsonArray& parts, const std::string& role) {
    JsonArray list;
    std::string joined;
    for (size_t i = 0; i < parts.size(); ++i) {
      const auto text = read_part(parts[i], role, format("{}.content[{}]", path_, i));
      if (!text) return "";
      joined += (i > 0 ? "\n" : "") + *text;
      list.push_back(JsonObject{{"type", "text"}, {"text", *text}});
    }
    return facts_.template_takes_parts ? JsonValue(std::move(list)) : JsonValue(std::move(joined));
  }

  std::optional<std::string> read_part(const JsonValue& part, const std::string& role,
                                       const std::string& path) {
    const JsonValue* type = part.find("type");
    if (type == nullptr || !type->is_string()) {
      refuse(ErrorKind::kInvalidParameter, path + ".type", "must be a string.");
      return std::nullopt;
    }
    const bool refusal = type->string() == "refusal";
    if (refusal && role != "assistant") {
      refuse(ErrorKind::kInvalidParameter, path + ".type",
             "is refusal, which only the assistant's messages hold.");
      return std::nullopt;
    }
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
void check_bytes(Fields& fields, const JsonValue& kwargs, const ModelFacts& facts) {
  const int64_t limit = facts.limits.max_prompt_bytes();
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
    check_bytes(fields, *kwargs, facts);
    prompt.options.kwargs = *kwargs;
  }
}

// A template is asked to write the final message as it stands, so it gets one text.
void join_final_content(JsonValue& messages) {
  JsonValue& message = messages.array().back();
  if (!message.is_object()) return;
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
  read_template_options(fields, facts, prompt);
  if (messages == nullptr || messages->array().empty()) return prompt;  // the table refused it
  prompt.messages = MessageReader(fields, facts).read(*messages);
  if (!prompt.options.continue_final_message) return prompt;
  join_final_content(prompt.messages);
  const JsonValue& last = prompt.messages.array().back();
  const JsonValue* role = last.find("role");
  if (role == nullptr || role->string() != "assistant" || last.find("tool_calls") != nullptr) {
    fields.problem(ErrorKind::kInvalidParameter, "continue_final_message",
                   "only a final message of the assistant, without tool calls, can be continued.");
  }
  return prompt;
}

}  // namespace tidemill

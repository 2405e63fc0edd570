#include "text/disguise.h"

#include <cctype>

#include "base/utf8.h"

namespace tidemill {
namespace {

Error refusal(std::string message) {
  return {.kind = ErrorKind::kTemplateError, .field = "messages", .message = std::move(message)};
}

std::vector<std::string> spellings_of(const std::vector<ControlToken>& control_tokens) {
  std::vector<std::string> spellings;
  for (const ControlToken& token : control_tokens) spellings.push_back(token.spelling);
  return spellings;
}

}  // namespace

Disguise::Disguise(const std::vector<ControlToken>& control_tokens,
                   std::initializer_list<const JsonValue*> others)
    : control_tokens_(control_tokens) {
  for (const JsonValue* value : others) reserve_all(*value);
  for (const ControlToken& token : control_tokens) reserve(token.spelling);
}

// Every private-use character of the text is taken. They are three bytes, the first 0xee or 0xef.
void Disguise::reserve(std::string_view text) {
  for (size_t at = 0; at + 2 < text.size(); ++at) {
    if ((text[at] & 0xfe) != 0xee) continue;
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
    const uint32_t code = (byte(0) & 0xfu) << 12 | (byte(1) & 0x3fu) << 6 | (byte(2) & 0x3fu);
    if (code >= kFirst && code <= kLast) taken_.set(code - kFirst);
  }
}

void Disguise::reserve_all(const JsonValue& value) {
  if (value.is_string()) {
    reserve(value.string());
  } else if (value.is_array()) {
    for (const JsonValue& item : value.array()) reserve_all(item);
  } else if (value.is_object()) {
    for (const JsonMember& member : value.object()) {
      reserve(member.first);
      reserve_all(member.second);
    }
  }
}

std::string_view Disguise::character_for(std::string_view spelling) {
  if (const auto known = character_of_.find(spelling); known != character_of_.end()) {
    return known->second;
  }
  uint32_t code = kFirst;
  while (code <= kLast && taken_[code - kFirst]) ++code;
  if (code > kLast) {
    exhausted_ = true;
    return "";
  }
  taken_.set(code - kFirst);
  std::string character;
  append_utf8(&character, code);
  return character_of_.emplace(spelling, std::move(character)).first->second;
}

Result<JsonValue> Disguise::put_on(const JsonValue& messages) {
  reserve_all(messages);
  const Spellings control(spellings_of(control_tokens_));
  JsonValue disguised = messages;
  hide(disguised, control);
  if (exhausted_) {
    return refusal(
        "the messages spell control tokens and hold every character from U+E000 to U+F8FF; leave "
        "out one or the other");
  }
  return disguised;
}

void Disguise::hide(JsonValue& value, const Spellings& control) {
  if (value.is_string()) {
    value = hidden(value.string(), control);
  } else if (value.is_array()) {
    for (JsonValue& item : value.array()) hide(item, control);
  } else if (value.is_object()) {
    for (JsonMember& member : value.object()) {
      member.first = hidden(member.first, control);
      hide(member.second, control);
    }
  }
}

std::string Disguise::hidden(std::string_view text, const Spellings& control) {
  std::string out = control.replace(
      text, [&](size_t token) { return character_for(control_tokens_[token].spelling); });
  const size_t end = out.find_last_not_of(" \t\r\n") + 1;  // templates trim
  const size_t begun = control.begun_at_end(std::string_view(out).substr(0, end));
  // A letter begins too many other words, some of which the template looks for.
  if (begun == 0 || std::isalnum(static_cast<unsigned char>(out[end - begun])) != 0) return out;
  const std::string_view character = character_for(out.substr(end - begun, begun));
  return out.replace(end - begun, begun, character);
}

Result<std::string> Disguise::take_off(std::string_view rendered) const {
  if (rendered.find(kMarkBorder) != std::string_view::npos) {
    return refusal(
        "the messages spell control tokens and hold the noncharacter U+10FFFF; leave out one or "
        "the other");
  }
  std::vector<std::string> spellings = spellings_of(control_tokens_);
  std::vector<std::string_view> by;
  for (const ControlToken& token : control_tokens_) by.push_back(token.mark);
  for (const auto& [spelling, character] : character_of_) {
    spellings.push_back(character);
    by.push_back(spelling);
  }
  return Spellings(spellings).replace(rendered, [&](size_t index) { return by[index]; });
}

}  // namespace tidemill

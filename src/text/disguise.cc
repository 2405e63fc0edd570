#include "text/disguise.h"

#include <algorithm>

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

Spellings::Spellings(const std::vector<std::string>& spellings) {
  for (size_t index = 0; index < spellings.size(); ++index) {
    if (spellings[index].empty()) continue;
    sorted_.push_back({.spelling = spellings[index], .index = index});
    first_bytes_.set(static_cast<unsigned char>(spellings[index].front()));
  }
  std::sort(sorted_.begin(), sorted_.end(),
            [](const Entry& a, const Entry& b) { return a.spelling < b.spelling; });
}

// Narrows the sorted list byte by byte to those that the text still agrees with: what a place
// costs does not grow with the number of spellings.
const Spellings::Entry* Spellings::longest_at(std::string_view text) const {
  if (!first_bytes_[static_cast<unsigned char>(text.front())]) return nullptr;
  const Entry* longest = nullptr;
  auto begin = sorted_.begin();
  auto end = sorted_.end();
  for (size_t length = 0;; ++length) {
    for (; begin != end && begin->spelling.size() == length; ++begin) longest = &*begin;
    if (begin == end || length == text.size()) return longest;
    const auto byte_of = [&](const Entry& entry) {
      return static_cast<unsigned char>(entry.spelling[length]);
    };
    const auto byte = static_cast<unsigned char>(text[length]);
    begin = std::partition_point(begin, end, [&](const Entry& e) { return byte_of(e) < byte; });
    end = std::partition_point(begin, end, [&](const Entry& e) { return byte_of(e) == byte; });
  }
}

std::string Spellings::replace(std::string_view text,
                               const std::function<std::string_view(size_t)>& by) const {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    if (const Entry* found = longest_at(text.substr(at))) {
      out += by(found->index);
      at += found->spelling.size();
    } else {
      out += text[at++];
    }
  }
  return out;
}

Disguise::Disguise(const std::vector<ControlToken>& control_tokens,
                   std::initializer_list<const JsonValue*> others)
    : control_tokens_(control_tokens), characters_(control_tokens.size()) {
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

std::string_view Disguise::character_for(size_t token) {
  std::string& character = characters_[token];
  if (character.empty()) {
    uint32_t code = kFirst;
    while (code <= kLast && taken_[code - kFirst]) ++code;
    if (code > kLast) {
      exhausted_ = true;
      return "";
    }
    taken_.set(code - kFirst);
    append_utf8(&character, code);
    worn_.push_back(token);
  }
  return character;
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
  const auto hidden = [&](const std::string& text) {
    return control.replace(text, [&](size_t token) { return character_for(token); });
  };
  if (value.is_string()) {
    value = hidden(value.string());
  } else if (value.is_array()) {
    for (JsonValue& item : value.array()) hide(item, control);
  } else if (value.is_object()) {
    for (JsonMember& member : value.object()) {
      member.first = hidden(member.first);
      hide(member.second, control);
    }
  }
}

Result<std::string> Disguise::take_off(std::string_view rendered) const {
  if (rendered.find(kMarkBorder) != std::string_view::npos) {
    return refusal(
        "the messages spell control tokens and hold the noncharacter U+10FFFF; leave out one or "
        "the other");
  }
  // Control tokens first, in their order; then the characters of those that are worn.
  std::vector<std::string> spellings = spellings_of(control_tokens_);
  for (const size_t token : worn_) spellings.push_back(characters_[token]);
  return Spellings(spellings).replace(rendered, [&](size_t index) -> std::string_view {
    const size_t count = control_tokens_.size();
    return index < count ? control_tokens_[index].mark
                         : control_tokens_[worn_[index - count]].spelling;
  });
}

}  // namespace tidemill

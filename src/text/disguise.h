// Keeps control tokens that a user spells apart from those that a chat template writes. While the
// template runs, a private-use character stands for each that the user spelled, or began to spell
// at the end of a text (the template may join it with the next); afterwards the user's are spelled
// out again, and the template's become their marks (tokenizer.h).
#pragma once

#include <bitset>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "text/spellings.h"
#include "text/tokenizer.h"

namespace tidemill {

// Of one conversation; one thread at a time.
class Disguise {
 public:
  // `control_tokens` outlives this. `others` is what else may come out of the template: none of
  // its characters is taken for a control token.
  Disguise(const std::vector<ControlToken>& control_tokens,
           std::initializer_list<const JsonValue*> others);

  // kTemplateError when the conversation leaves no private-use character for a control token.
  Result<JsonValue> put_on(const JsonValue& messages);
  // Did put_on() find any?
  bool is_worn() const { return !character_of_.empty(); }
  // kTemplateError when the text holds what marks are made of.
  Result<std::string> take_off(std::string_view rendered) const;

 private:
  static constexpr uint32_t kFirst = 0xe000;  // the private use area
  static constexpr uint32_t kLast = 0xf8ff;

  void reserve(std::string_view text);
  void reserve_all(const JsonValue& value);
  void hide(JsonValue& value, const Spellings& control);
  std::string hidden(std::string_view text, const Spellings& control);
  std::string_view character_for(std::string_view spelling);

  const std::vector<ControlToken>& control_tokens_;
  std::bitset<kLast - kFirst + 1> taken_;
  std::map<std::string, std::string, std::less<>> character_of_;  // by what it stands for
  bool exhausted_ = false;
};

}  // namespace tidemill

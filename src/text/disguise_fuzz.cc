// P-6: whatever users write between the control tokens of a template comes back as it was, the
// template's become their marks, and no mark comes out of a user's text.
#include "base/fuzz_target.h"
#include "base/utf8.h"
#include "text/disguise.h"

namespace tidemill {
namespace {

const std::vector<ControlToken>& control_tokens() {
  static const std::vector<ControlToken> tokens = {
      {.spelling = "<|end|>", .mark = std::string(kMarkBorder) + "0" + std::string(kMarkBorder)},
      {.spelling = "<|", .mark = std::string(kMarkBorder) + "1" + std::string(kMarkBorder)},
      {.spelling = "</s>", .mark = std::string(kMarkBorder) + "2" + std::string(kMarkBorder)}};
  return tokens;
}

}  // namespace

// The input is several users' texts, each ended by a NUL; a template writes <|end|> behind each.
void fuzz_one(std::string_view input) {
  if (first_invalid_utf8(input)) return;  // the JSON of a request holds nothing else
  FuzzInput in(input);
  JsonArray contents;
  std::string expected;
  while (!in.empty()) {
    const std::string_view content = in.until('\0');
    contents.push_back(std::string(content));
    expected += std::string(content) + control_tokens()[0].mark;
  }
  const JsonValue messages = contents;
  Disguise disguise(control_tokens(), {&messages});
  const auto hidden = disguise.put_on(messages);
  if (!hidden) return;  // no private-use character is left
  std::string rendered;
  for (const JsonValue& content : hidden->array()) {
    rendered += content.string() + control_tokens()[0].spelling;
  }
  const auto marked = disguise.take_off(rendered);
  if (input.find(kMarkBorder) != std::string_view::npos) {
    CHECK(!marked, "a mark's character was let through");
    return;
  }
  CHECK(marked.has_value(), "refused without a reason: {}", marked.error().message);
  CHECK(*marked == expected, "\"{}\" instead of \"{}\"", *marked, expected);
}

std::vector<std::string> fuzz_seeds() {
  using namespace std::string_literals;
  return {"hello\0 wor<|end|>ld\0"s, "a<|\0end|>\0<\0"s, "</s><|e \0\ue000\uf8ff<|end|>\0x<|end|"s,
          "\U0010ffff0\U0010ffff"s};
}

}  // namespace tidemill

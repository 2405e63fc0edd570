// JSON: what is read can be written and read again, and is the same; what is refused is refused
// with a message that can be sent.
#include "base/fuzz_target.h"
#include "base/json.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

void check_round_trip(const JsonValue& value, const JsonLimits& limits) {
  const std::string text = to_json(value);
  const auto again = parse_json(text, limits);
  CHECK(again.has_value(), "our own JSON is refused: {}", again.error().message);
  CHECK(*again == value, "our own JSON reads differently");
  CHECK(to_json(*again) == text, "our own JSON is spelled differently");
}

void check_refusal(const Error& error) {
  CHECK(error.kind == ErrorKind::kInvalidJson && error.field.empty(), "another kind of error");
  CHECK(!first_invalid_utf8(error.message) && error.message.size() < 400, "no message to send");
}

}  // namespace

void fuzz_one(std::string_view input) {
  const auto strict = parse_json(input);
  const auto file = parse_json(input, kFileJsonLimits);
  if (!file) check_refusal(file.error());
  if (file) check_round_trip(*file, kFileJsonLimits);
  if (!strict) return check_refusal(strict.error());
  check_round_trip(*strict, {});
  CHECK(!first_invalid_utf8(input), "a document that is no UTF-8 was read");
  CHECK(file && *file == *strict, "a request and a file read the same document differently");
}

std::vector<std::string> fuzz_seeds() {
  return {"{}",
          "[1,-0,2.5e-3,1e308,9223372036854775808,18446744073709551616,true,null]",
          R"({"a":{"b":[{},[],""]},"c":"\u00e9\ud83d\ude00\n\"\\\/","":0})",
          "\"\xc3\xa9\xf0\x9f\x98\x80\"",
          std::string(65, '[') + std::string(65, ']'),
          R"({"model":"m","messages":[{"role":"user","content":"x"}],"temperature":0.5})"};
}

}  // namespace tidemill

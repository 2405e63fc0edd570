// serving.properties: every key and value can be spelled with escapes, and reads back the same.
#include <stdexcept>

#include "base/fuzz_target.h"
#include "base/properties.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

// As Java's Properties.store() spells them: nothing but plain characters stands for itself.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '\t':
        out += "\\t";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\f':
        out += "\\f";
        break;
      case ' ':
      case ':':
      case '=':
      case '#':
      case '!':
      case '\\':
        out += '\\';
        [[fallthrough]];
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace

void fuzz_one(std::string_view input) {
  std::vector<Property> properties;
  try {
    properties = parse_properties(input, "file");
  } catch (const std::runtime_error& error) {
    CHECK(std::string_view(error.what()).starts_with("file"), "{}", error.what());
    return;
  }
  std::string text;
  int line = 0;
  for (const Property& property : properties) {
    CHECK(!first_invalid_utf8(property.key) && !first_invalid_utf8(property.value), "no UTF-8");
    CHECK(property.line > line, "lines do not rise");
    line = property.line;
    text += escaped(property.key) + "=" + escaped(property.value) + "\n";
  }
  const std::vector<Property> again = parse_properties(text, "again");
  CHECK(again.size() == properties.size(), "{} of {} lines", again.size(), properties.size());
  for (size_t i = 0; i < again.size(); ++i) {
    CHECK(again[i].key == properties[i].key && again[i].value == properties[i].value,
          "line {} reads differently", i);
  }
}

std::vector<std::string> fuzz_seeds() {
  return {"engine=Python\noption.model_id=/opt/ml/model\n# a comment\n! another\n",
          "a = b\\\n   c\\\r\n d\nkey\\ with\\ blanks : value\\t\\u00e9\\ud83d\\ude00\n",
          "latin=\xe9\nempty=\n=nothing\n\\", "a\\\\=b\\\n\n c=d\r e f\f g"};
}

}  // namespace tidemill

#include <array>
#include <charconv>
#include <cmath>

#include "base/json.h"

namespace tidemill {
namespace {

template <typename Number>
void append_number(std::string* out, Number number) {
  std::array<char, 32> buffer;
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number);
  CHECK(error == std::errc(), "a number did not fit its buffer");
  out->append(buffer.data(), end);
}

// Shortest form that reads back equal, and recognisable as a real: 1.0, not 1.
template <typename Real>
void append_real(std::string* out, Real number) {
  CHECK(std::isfinite(number), "JSON has no spelling for {}", number);
  const size_t begin = out->size();
  append_number(out, number);
  if (out->find_first_of(".e", begin) == std::string::npos) *out += ".0";
}

}  // namespace

void append_json_string(std::string* out, std::string_view text) {
  *out += '"';
  size_t plain = 0;  // begin of the run that needs no escape
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    out->append(text, plain, i - plain);
    plain = i + 1;
    switch (c) {
      case '"':
        *out += "\\\"";
        break;
      case '\\':
        *out += "\\\\";
        break;
      case '\n':
        *out += "\\n";
        break;
      case '\r':
        *out += "\\r";
        break;
      case '\t':
        *out += "\\t";
        break;
      case '\b':
        *out += "\\b";
        break;
      case '\f':
        *out += "\\f";
        break;
      default:
        *out += format("\\u{:04x}", c);
    }
  }
  out->append(text, plain, text.size() - plain);
  *out += '"';
}

void JsonWriter::separate() {
  if (needs_comma_) *out_ += ',';
  needs_comma_ = true;
}

JsonWriter& JsonWriter::begin_object() {
  separate();
  *out_ += '{';
  needs_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::end_object() {
  *out_ += '}';
  needs_comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::begin_array() {
  separate();
  *out_ += '[';
  needs_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::end_array() {
  *out_ += ']';
  needs_comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::key(std::string_view name) {
  separate();
  append_json_string(out_, name);
  *out_ += ':';
  needs_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::value(std::string_view text) {
  separate();
  append_json_string(out_, text);
  return *this;
}

JsonWriter& JsonWriter::value(bool flag) { return raw(flag ? "true" : "false"); }

JsonWriter& JsonWriter::value(int64_t number) {
  separate();
  append_number(out_, number);
  return *this;
}

JsonWriter& JsonWriter::value(uint64_t number) {
  separate();
  append_number(out_, number);
  return *this;
}

JsonWriter& JsonWriter::value(double number) {
  separate();
  append_real(out_, number);
  return *this;
}

JsonWriter& JsonWriter::value(float number) {
  separate();
  append_real(out_, number);
  return *this;
}

JsonWriter& JsonWriter::null() { return raw("null"); }

JsonWriter& JsonWriter::raw(std::string_view json) {
  separate();
  *out_ += json;
  return *this;
}

JsonWriter& JsonWriter::value(const JsonValue& tree) {
  if (tree.is_null()) return null();
  if (tree.is_bool()) return value(tree.boolean());
  if (tree.is_integer()) {
    return tree.fits_int64() ? value(tree.integer()) : value(tree.unsigned_integer());
  }
  if (tree.is_real()) return value(tree.number());
  if (tree.is_string()) return value(std::string_view(tree.string()));
  if (tree.is_array()) {
    begin_array();
    for (const JsonValue& item : tree.array()) value(item);
    return end_array();
  }
  begin_object();
  for (const JsonMember& member : tree.object()) key(member.first).value(member.second);
  return end_object();
}

std::string to_json(const JsonValue& value) {
  std::string out;
  JsonWriter(&out).value(value);
  return out;
}

}  // namespace tidemill

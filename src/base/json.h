// JSON in and out, strict in both directions.
//
// In: parse_json() accepts exactly RFC 8259 in valid UTF-8, and refuses what parsers disagree on:
// duplicate keys, numbers that do not fit, lone surrogates, a byte order mark, bytes after the
// document. Depth and number of values are bounded, and so is the stack.
// Out: JsonWriter appends to a string; members come out in the order written.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"

namespace tidemill {

class JsonValue;
using JsonArray = std::vector<JsonValue>;
using JsonMember = std::pair<std::string, JsonValue>;
using JsonObject = std::vector<JsonMember>;  // in the order of the document; keys are unique

// One JSON value, owned. Integers and reals are told apart by their spelling: 5 is an integer,
// 5.0 and 5e0 are reals.
class JsonValue {
 public:
  JsonValue() = default;  // null
  JsonValue(bool value) : value_(value) {}
  JsonValue(int value) : value_(int64_t{value}) {}
  JsonValue(int64_t value) : value_(value) {}
  JsonValue(uint64_t value);  // an int64_t when it fits
  JsonValue(double value) : value_(value) {}
  JsonValue(std::string value) : value_(std::move(value)) {}
  JsonValue(const char* value) : value_(std::string(value)) {}
  JsonValue(JsonArray value) : value_(std::move(value)) {}
  JsonValue(JsonObject value) : value_(std::move(value)) {}

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }
  bool is_integer() const;  // int64_t or uint64_t
  bool is_real() const { return std::holds_alternative<double>(value_); }
  bool is_number() const { return is_integer() || is_real(); }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_array() const { return std::holds_alternative<JsonArray>(value_); }
  bool is_object() const { return std::holds_alternative<JsonObject>(value_); }

  // The typed getters CHECK the kind: ask first.
  bool boolean() const;
  int64_t integer() const;            // CHECKs that it fits in 63 bits
  uint64_t unsigned_integer() const;  // CHECKs that it is not negative
  bool fits_int64() const;            // an integer that integer() can return
  double number() const;              // of an integer, too
  const std::string& string() const;
  const JsonArray& array() const;
  const JsonObject& object() const;
  JsonArray& array();
  JsonObject& object();

  // The member of that name; null when there is none or this is no object.
  const JsonValue* find(std::string_view key) const;
  JsonValue* find(std::string_view key);
  // Sets or replaces a member of an object.
  void set(std::string_view key, JsonValue value);

  // "null", "a boolean", "an integer", "a number", "a string", "an array", "an object".
  std::string_view kind_name() const;

  bool operator==(const JsonValue&) const = default;

 private:
  std::variant<std::monostate, bool, int64_t, uint64_t, double, std::string, JsonArray, JsonObject>
      value_;
};

struct JsonLimits {
  size_t max_depth = 64;
  size_t max_values = 100'000;
  size_t max_members = static_cast<size_t>(-1);  // of any one object
  // Files of other projects spell "unlimited" as an integer beyond 64 bits; read it as a real.
  // In requests such a number is refused.
  bool huge_integers_as_reals = false;
};

// ErrorKind::kInvalidJson with the byte offset in the message, and an empty field.
Result<JsonValue> parse_json(std::string_view text, const JsonLimits& limits = {});

// Limits for files that the operator named (tokenizers hold some 10^5 values).
inline constexpr JsonLimits kFileJsonLimits{
    .max_depth = 64, .max_values = 20'000'000, .huge_integers_as_reals = true};

// Appends JSON to a string. Compact: no blanks. Strings must be valid UTF-8.
//   JsonWriter out(&text);
//   out.begin_object().key("id").value(7).key("tags").begin_array().value("a").end_array()
//      .end_object();
class JsonWriter {
 public:
  explicit JsonWriter(std::string* out) : out_(out) {}

  JsonWriter& begin_object();
  JsonWriter& end_object();
  JsonWriter& begin_array();
  JsonWriter& end_array();
  JsonWriter& key(std::string_view name);
  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(const std::string& text) { return value(std::string_view(text)); }
  JsonWriter& value(bool flag);
  JsonWriter& value(int number) { return value(int64_t{number}); }
  JsonWriter& value(int64_t number);
  JsonWriter& value(uint64_t number);
  JsonWriter& value(double number);  // shortest form that reads back equal; CHECKs finiteness
  JsonWriter& value(float number);   // shortest form that reads back equal as a float
  JsonWriter& null();
  JsonWriter& value(const JsonValue& tree);
  JsonWriter& raw(std::string_view json);  // a value already spelled as JSON

 private:
  void separate();
  std::string* out_;
  bool needs_comma_ = false;
};

std::string to_json(const JsonValue& value);

// `text` with quotes and escapes, as it stands in a JSON document.
void append_json_string(std::string* out, std::string_view text);

}  // namespace tidemill

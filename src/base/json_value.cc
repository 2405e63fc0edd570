#include <limits>

#include "base/json.h"

namespace tidemill {

JsonValue::JsonValue(uint64_t value) {
  if (value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    value_ = static_cast<int64_t>(value);
  } else {
    value_ = value;
  }
}

bool JsonValue::is_integer() const {
  return std::holds_alternative<int64_t>(value_) || std::holds_alternative<uint64_t>(value_);
}

bool JsonValue::fits_int64() const { return std::holds_alternative<int64_t>(value_); }

bool JsonValue::boolean() const {
  CHECK(is_bool(), "a boolean was read from {}", kind_name());
  return std::get<bool>(value_);
}

int64_t JsonValue::integer() const {
  CHECK(fits_int64(), "an integer of 63 bits was read from {}", kind_name());
  return std::get<int64_t>(value_);
}

uint64_t JsonValue::unsigned_integer() const {
  if (const auto* wide = std::get_if<uint64_t>(&value_)) return *wide;
  CHECK(fits_int64() && integer() >= 0, "an unsigned integer was read from {}", kind_name());
  return static_cast<uint64_t>(integer());
}

double JsonValue::number() const {
  if (const auto* narrow = std::get_if<int64_t>(&value_)) return static_cast<double>(*narrow);
  if (const auto* wide = std::get_if<uint64_t>(&value_)) return static_cast<double>(*wide);
  CHECK(is_real(), "a number was read from {}", kind_name());
  return std::get<double>(value_);
}

const std::string& JsonValue::string() const {
  CHECK(is_string(), "a string was read from {}", kind_name());
  return std::get<std::string>(value_);
}

const JsonArray& JsonValue::array() const {
  CHECK(is_array(), "an array was read from {}", kind_name());
  return std::get<JsonArray>(value_);
}

const JsonObject& JsonValue::object() const {
  CHECK(is_object(), "an object was read from {}", kind_name());
  return std::get<JsonObject>(value_);
}

JsonArray& JsonValue::array() { return const_cast<JsonArray&>(std::as_const(*this).array()); }
JsonObject& JsonValue::object() { return const_cast<JsonObject&>(std::as_const(*this).object()); }

const JsonValue* JsonValue::find(std::string_view key) const {
  if (!is_object()) return nullptr;
  for (const JsonMember& member : object()) {
    if (member.first == key) return &member.second;
  }
  return nullptr;
}

JsonValue* JsonValue::find(std::string_view key) {
  return const_cast<JsonValue*>(std::as_const(*this).find(key));
}

void JsonValue::set(std::string_view key, JsonValue value) {
  if (JsonValue* present = find(key)) {
    *present = std::move(value);
  } else {
    object().emplace_back(std::string(key), std::move(value));
  }
}

std::string_view JsonValue::kind_name() const {
  if (is_null()) return "null";
  if (is_bool()) return "a boolean";
  if (is_integer()) return "an integer";
  if (is_real()) return "a number";
  if (is_string()) return "a string";
  return is_array() ? "an array" : "an object";
}

}  // namespace tidemill

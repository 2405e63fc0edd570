#include "model/json_fields.h"

#include <cmath>
#include <utility>

#include "base/check.h"

namespace tidemill {
namespace {

// A value as it stands in the file, short enough for a message.
std::string shown(const JsonValue& value) {
  constexpr size_t kMaxBytes = 60;
  if (value.is_array() || value.is_object()) return std::string(value.kind_name());
  std::string text = to_json(value);
  if (text.size() > kMaxBytes) text = text.substr(0, kMaxBytes) + "...";
  return text;
}

}  // namespace

JsonFields::JsonFields(const JsonValue& object, std::string source)
    : object_(&object), source_(std::move(source)) {
  if (!object.is_object()) {
    throw std::runtime_error(
        format("{}: is {}; it must be a JSON object", source_, object.kind_name()));
  }
}

const JsonValue* JsonFields::find(std::string_view key) const {
  const JsonValue* value = object_->find(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

bool JsonFields::is_null(std::string_view key) const {
  const JsonValue* value = object_->find(key);
  return value != nullptr && value->is_null();
}

JsonFields::Member JsonFields::first_of(Keys keys) const {
  for (const std::string_view key : keys) {
    if (const JsonValue* value = find(key)) return {key, value};
  }
  return {};
}

std::runtime_error JsonFields::missing(Keys keys) const {
  std::string names;
  for (const std::string_view key : keys) names += (names.empty() ? "" : " or ") + std::string(key);
  return std::runtime_error(format("{}: {} is missing", source_, names));
}

std::runtime_error JsonFields::wrong(std::string_view key, const JsonValue& value,
                                     std::string_view allowed) const {
  return std::runtime_error(
      format("{}: {} is {}; it must be {}", source_, key, shown(value), allowed));
}

int64_t JsonFields::integer(Keys keys, Bounds bounds, std::optional<int64_t> absent) const {
  const auto [key, value] = first_of(keys);
  if (value == nullptr) {
    if (absent) return *absent;
    throw missing(keys);
  }
  if (!value->fits_int64() || value->integer() < bounds.min || value->integer() > bounds.max) {
    throw wrong(key, *value, format("an integer from {} to {}", bounds.min, bounds.max));
  }
  return value->integer();
}

double JsonFields::number(Keys keys, std::optional<double> absent) const {
  const auto [key, value] = first_of(keys);
  if (value == nullptr) {
    if (absent) return *absent;
    throw missing(keys);
  }
  if (!value->is_number() || !std::isfinite(value->number())) {
    throw wrong(key, *value, "a finite number");
  }
  return value->number();
}

bool JsonFields::boolean(std::string_view key, std::optional<bool> absent) const {
  const JsonValue* value = find(key);
  if (value == nullptr) {
    if (absent) return *absent;
    throw missing({key});
  }
  if (!value->is_bool()) throw wrong(key, *value, "true or false");
  return value->boolean();
}

std::string JsonFields::text(std::string_view key) const {
  const JsonValue* value = find(key);
  if (value == nullptr) throw missing({key});
  if (!value->is_string()) throw wrong(key, *value, "a string");
  return value->string();
}

const JsonArray& JsonFields::array(std::string_view key) const {
  const JsonValue* value = find(key);
  if (value == nullptr) throw missing({key});
  if (!value->is_array()) throw wrong(key, *value, "an array");
  return value->array();
}

JsonFields JsonFields::object(std::string_view key) const {
  const JsonValue* value = find(key);
  if (value == nullptr) throw missing({key});
  if (!value->is_object()) throw wrong(key, *value, "an object");
  return JsonFields(*value, format("{}: {}", source_, key));
}

}  // namespace tidemill
